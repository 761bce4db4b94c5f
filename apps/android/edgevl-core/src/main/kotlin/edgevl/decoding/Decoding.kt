package edgevl.decoding

import edgevl.bundle.Manifest
import edgevl.bundle.TensorSpec
import edgevl.bundle.refuse
import edgevl.bundle.text
import edgevl.run.Plan
import edgevl.run.Values
import edgevl.text.TextCodec
import kotlin.math.abs

internal const val SLACK = 2 // a decision whose margin is below so many tolerances is not compared

/**
 * What values say: a result of labels, numbers of texts, token ids, or boxes of four numbers.
 *
 * [margins]: how far each decision was from another one; none of boxes and of rows with one number.
 */
class Decisions(
    val result: List<Any>,
    val margins: List<Double> = emptyList(),
)

/** A kind of decoding: which values of a query are read, and what they say. It knows no task. */
abstract class Decoding internal constructor(
    internal val fields: Map<String, Any?>,
    private val manifest: Manifest,
) {
    private val plans = HashMap<Pair<Int, Int>, Plan>()

    /** The word of the manifest. */
    val kind: String get() = fields.text("kind")

    /** Return the calls for a query with so many pictures and texts. */
    @Synchronized
    internal fun plan(
        pictures: Int,
        texts: Int,
    ): Plan = plans.getOrPut(pictures to texts) { Plan(manifest.programs, pictures, texts).also(::fill) }

    internal abstract fun fill(plan: Plan)

    /** Return what values say. Throws [edgevl.BundleRefused] for such as no artifact may give. */
    abstract fun decide(values: Values): Decisions

    /** Return a result in words. [texts] are the query's. */
    open fun words(
        result: List<Any>,
        texts: List<String>,
    ): List<String> = result.map { it.toString() }

    /** Return each row of scores as shares, after the activation; null where there are no scores of choices. */
    open fun shares(values: Values): List<DoubleArray>? = null

    /** Say if results are equal wherever the recorded decision was clear: by more than [least]. */
    open fun same(
        own: List<Any>,
        recorded: Decisions,
        least: Double,
    ): Boolean {
        if (own.size != recorded.result.size) return false
        return own.indices.all { own[it] == recorded.result[it] || (recorded.margins.getOrNull(it) ?: Double.MAX_VALUE) <= least }
    }

    /** Say if an item of a recorded result is the one that follows from the recorded values. */
    internal open fun follows(
        own: Any,
        recorded: Any?,
    ): Boolean = own == if (recorded is Long) recorded.toInt() else recorded

    internal companion object {
        /** Return the decoding of a manifest. Throws `BundleRefused` where it does not fit the rest of the bundle. */
        fun of(
            manifest: Manifest,
            labels: List<String>?,
            texts: Map<String, TextCodec>,
        ): Decoding {
            val fields = manifest.decoding
            return when (fields.text("kind")) {
                "classify" -> Classify(fields, manifest, labels)
                "rank" -> Rank(fields, manifest)
                "generate" -> Generate(fields, manifest, texts)
                else -> Box(fields, manifest)
            }
        }
    }
}

/** Refuse an output that is not float [B, N], where N is [width] if given. Returns N. */
internal fun Manifest.checkRow(
    name: String,
    width: Int? = null,
): Int {
    val spec: TensorSpec =
        programs.flatMap { it.outputs }.firstOrNull { it.name == name }
            ?: refuse("the decoding reads the value $name, which no program gives")
    val fits = spec.shape.size == 2 && spec.dtype.isFloat && (width == null || spec.shape[1] == width)
    if (!fits) refuse("the decoding reads $name as float [B, ${width ?: "N"}], it is ${spec.dtype.word} ${spec.shape}")
    return spec.shape[1]
}

internal fun Decoding.finite(rows: List<FloatArray>): List<FloatArray> {
    if (!rows.all { row -> row.all { abs(it) <= Float.MAX_VALUE } }) refuse("the artifact gives values of $kind that are no finite numbers")
    return rows
}

/** Return by how much the best score of each row leads; nothing where a row has one score only. */
internal fun margins(rows: List<FloatArray>): List<Double> {
    if (rows.isEmpty() || rows[0].size < 2) return emptyList()
    return rows.map { row ->
        var first = Double.NEGATIVE_INFINITY
        var second = Double.NEGATIVE_INFINITY
        for (value in row) {
            second = maxOf(second, minOf(first, value.toDouble()))
            first = maxOf(first, value.toDouble())
        }
        first - second
    }
}
