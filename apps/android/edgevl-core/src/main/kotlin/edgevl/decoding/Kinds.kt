package edgevl.decoding

import edgevl.BadInput
import edgevl.bundle.Manifest
import edgevl.bundle.int
import edgevl.bundle.refuse
import edgevl.bundle.text
import edgevl.run.Plan
import edgevl.run.Values
import edgevl.run.indexOfLargest
import edgevl.text.TextCodec
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.sqrt

private const val BOX_STEP = 1e-5

private fun Plan.readOfEachText(output: String) {
    val all = (0 until pictures).toList()
    if (texts == 0) read(output, all, emptyList())
    for (text in 0 until texts) read(output, all, listOf(text))
}

/** The label of the largest score, for each text. */
class Classify internal constructor(
    fields: Map<String, Any?>,
    manifest: Manifest,
    labels: List<String>?,
) : Decoding(fields, manifest) {
    /** The answers, in the order of the scores. */
    val labels: List<String> = labels.orEmpty()
    private val output = fields.text("output")

    init {
        if (this.labels.isEmpty()) refuse("the decoding classify needs labels, this bundle has none")
        manifest.checkRow(output, this.labels.size)
    }

    override fun fill(plan: Plan) = plan.readOfEachText(output)

    override fun decide(values: Values): Decisions {
        val rows = finite(values.getValue(output))
        return Decisions(rows.map { labels[indexOfLargest(it)] }, margins(rows))
    }

    override fun shares(values: Values) =
        values.getValue(output).map { row -> shares(DoubleArray(row.size) { row[it].toDouble() }, fields) }
}

/** The number of the best text for each picture, by the product of their embeddings. */
class Rank internal constructor(
    fields: Map<String, Any?>,
    manifest: Manifest,
) : Decoding(fields, manifest) {
    internal val picture = fields.text("picture")
    internal val text = fields.text("text")
    private val scale = (fields["scale"] as Number).toDouble()
    private val bias = (fields["bias"] as Number? ?: 0.0).toDouble()

    /** Texts with `{}` once, where a label goes. */
    val prompts: List<String> = (fields["prompts"] as List<*>?).orEmpty().map { it as String }

    init {
        prompts.firstOrNull { it.split("{}").size != 2 }?.let { refuse("the prompt \"$it\" must hold {} once") }
        manifest.checkRow(text, manifest.checkRow(picture))
    }

    override fun fill(plan: Plan) {
        for (number in 0 until plan.pictures) plan.read(picture, listOf(number), emptyList())
        for (number in 0 until plan.texts) plan.read(text, emptyList(), listOf(number))
    }

    /** Return the product of each picture with each text. */
    internal fun products(values: Values): List<FloatArray> {
        val texts = values[text].orEmpty()
        return if (texts.isEmpty()) {
            emptyList()
        } else {
            values[picture].orEmpty().map { row ->
                FloatArray(texts.size) { product(row, texts[it]).toFloat() }
            }
        }
    }

    override fun decide(values: Values): Decisions {
        values.values.forEach(::finite)
        val rows = products(values)
        return Decisions(rows.map(::indexOfLargest), margins(rows))
    }

    override fun words(
        result: List<Any>,
        texts: List<String>,
    ) = result.map { texts[it as Int] }

    override fun shares(values: Values): List<DoubleArray> {
        val texts = values[text].orEmpty()
        if (texts.isEmpty()) return emptyList()
        return values[picture].orEmpty().map { row -> shares(DoubleArray(texts.size) { scale * product(row, texts[it]) + bias }, fields) }
    }

    /** Return the texts whose mean embedding stands for a label: one for each prompt. */
    internal fun textsOf(label: String): List<String> = if (prompts.isEmpty()) listOf(label) else prompts.map { it.replace("{}", label) }
}

/** Token ids of one sequence, at each step the one with the largest score, until the stop token. */
class Generate internal constructor(
    fields: Map<String, Any?>,
    manifest: Manifest,
    texts: Map<String, TextCodec>,
) : Decoding(fields, manifest) {
    private val output = fields.text("output")
    private val stop = fields.int("stop")
    private val codec: TextCodec

    init {
        val name = (fields["text"] ?: "main") as String
        codec = texts[name] ?: refuse("the decoding generate names the text processing \"$name\", there is none")
        val program = manifest.programs.firstOrNull { it.name == fields["program"] }
        if (program == null ||
            program.outputs.none { it.name == output }
        ) {
            refuse("the decoding reads $output of the program ${fields["program"]}, which does not give it")
        }
        manifest.checkRow(output)
    }

    override fun fill(plan: Plan) {
        if (plan.texts > 1) throw BadInput("a query of a generated answer has one text at most: ask one after another")
        plan.repeat(fields.text("program"), output, fields.int("start"), stop, fields.int("steps"))
    }

    override fun decide(values: Values): Decisions {
        val rows = values.getValue(output)
        if (rows.any { row -> row.any(Float::isNaN) }) refuse("the artifact gives scores that are no numbers")
        return Decisions(rows.map(::indexOfLargest), margins(rows))
    }

    override fun words(
        result: List<Any>,
        texts: List<String>,
    ) = listOf(codec.decode(result.map { it as Int }.takeWhile { it != stop }))

    /** Say if the tokens are equal up to the first decision that was not clear: what follows it may differ. */
    override fun same(
        own: List<Any>,
        recorded: Decisions,
        least: Double,
    ): Boolean {
        for ((index, token) in recorded.result.withIndex()) {
            if ((recorded.margins.getOrNull(index) ?: Double.MAX_VALUE) <= least) return true
            if (own.getOrNull(index) != token) return false
        }
        return own.size == recorded.result.size
    }
}

/** Left, top, right, bottom as shares of the sides of the square that the model sees, for each text. */
class Box internal constructor(
    fields: Map<String, Any?>,
    manifest: Manifest,
) : Decoding(fields, manifest) {
    private val output = fields.text("output")
    private val isCenter = (fields["format"] ?: "center") == "center"

    init {
        manifest.checkRow(output, 4)
    }

    override fun fill(plan: Plan) = plan.readOfEachText(output)

    override fun decide(values: Values): Decisions = Decisions(finite(values.getValue(output)).map(::corners))

    private fun corners(row: FloatArray): List<Double> {
        val (a, b, c, d) = row.map { it.toDouble() }
        val corners = if (isCenter) listOf(a - c / 2, b - d / 2, a + c / 2, b + d / 2) else listOf(a, b, c, d)
        return corners.map { it.coerceIn(0.0, 1.0) }
    }

    override fun same(
        own: List<Any>,
        recorded: Decisions,
        least: Double,
    ) = own.size == recorded.result.size && own.indices.all { near(own[it], recorded.result[it], least) }

    override fun follows(
        own: Any,
        recorded: Any?,
    ) = near(own, recorded, BOX_STEP)

    private fun near(
        own: Any,
        recorded: Any?,
        least: Double,
    ): Boolean {
        val numbers = (recorded as? List<*>)?.map { (it as? Number ?: return false).toDouble() } ?: return false
        return numbers.size == 4 && (own as List<*>).indices.all { abs(own[it] as Double - numbers[it]) <= least }
    }
}

internal fun product(
    a: FloatArray,
    b: FloatArray,
): Double {
    var sum = 0.0
    for (index in a.indices) sum += a[index].toDouble() * b[index]
    return sum
}

internal fun normalized(row: DoubleArray): FloatArray {
    val length = sqrt(row.sumOf { it * it })
    return FloatArray(row.size) { (row[it] / length).toFloat() }
}

private fun shares(
    scores: DoubleArray,
    fields: Map<String, Any?>,
): DoubleArray {
    if (fields["activation"] == "sigmoid") return DoubleArray(scores.size) { 1 / (1 + exp(-scores[it])) }
    val largest = scores.max()
    val powers = DoubleArray(scores.size) { exp(scores[it] - largest) }
    val total = powers.sum()
    return DoubleArray(scores.size) { powers[it] / total }
}
