package edgevl.run

import edgevl.BadInput
import edgevl.bundle.Program
import edgevl.bundle.Source
import edgevl.bundle.TensorSpec
import edgevl.bundle.refuse

private const val MAX_CALLS = 4096

/** Where an input of a call comes from. */
internal sealed interface Origin {
    data class Pixels(
        val processing: String,
        val index: Int,
    ) : Origin

    data class Ids(
        val processing: String,
        val index: Int,
        val mask: Boolean,
    ) : Origin

    /** An output of a call. */
    data class Output(
        val call: Call,
        val name: String,
    ) : Origin

    /** An output of the step before; in the first step a value, or zeros. */
    data class State(
        val name: String,
        val start: Output?,
    ) : Origin

    data object Token : Origin

    data object Step : Origin
}

/** One call of a program. Calls with the same inputs are the same call: what two have in common is computed once. */
internal class Call(
    val program: Program,
    val origins: List<Origin>,
) {
    private val hash = 31 * program.name.hashCode() + origins.hashCode()

    /** Does it depend on no text? Then it belongs to the pictures alone. */
    val isOfPictures: Boolean =
        origins.all { it is Origin.Pixels || (it is Origin.Output && it.call.isOfPictures) }

    fun inputs(): List<Pair<TensorSpec, Origin>> = program.inputs.zip(origins)

    override fun hashCode() = hash

    override fun equals(other: Any?) =
        this === other || (other is Call && hash == other.hash && program.name == other.program.name && origins == other.origins)
}

/** A call that is repeated, once for each token, until the stop token or for so many steps. */
internal class Loop(
    val call: Call,
    val output: String,
    val start: Int,
    val stop: Int,
    val steps: Int,
)

/**
 * The calls for a query with so many pictures and texts, from the sources of the manifest alone.
 *
 * [rows] of an output are what the decoding reads of it.
 */
internal class Plan(
    programs: List<Program>,
    val pictures: Int,
    val texts: Int,
) {
    private val makers = programs.flatMap { program -> program.outputs.map { it.name to program } }.toMap()
    private val byName = programs.associateBy { it.name }
    private val known = HashMap<Triple<String, List<Int>, List<Int>>, Origin.Output>()
    private val unique = LinkedHashMap<Call, Call>()
    val rows = LinkedHashMap<String, MutableList<Origin.Output>>()
    var loop: Loop? = null
        private set
    val calls: Collection<Call> get() = unique.values

    /** Plan a row of an output, for these pictures and texts. Throws [BadInput] where the query has too few of them. */
    fun read(
        output: String,
        pictures: List<Int>,
        texts: List<Int>,
    ) {
        rows.getOrPut(output, ::ArrayList) += value(output, pictures, texts)
    }

    /** Plan a sequence of tokens, for all pictures and texts of the query. */
    fun repeat(
        program: String,
        output: String,
        start: Int,
        stop: Int,
        steps: Int,
    ) {
        val call = call(byName.getValue(program), (0 until pictures).toList(), (0 until texts).toList())
        loop = Loop(call, output, start, stop, steps)
    }

    private fun value(
        name: String,
        pictures: List<Int>,
        texts: List<Int>,
    ): Origin.Output {
        val key = Triple(name, pictures, texts)
        known[key]?.let { return it }
        if (known.size >= MAX_CALLS) refuse("the sources of the programs make more than $MAX_CALLS calls for one query")
        val program = makers.getValue(name)
        if (program.inputs.any { it.from.isOfALoop }) refuse("the value $name is read outside of the loop that gives it")
        val call = call(program, pictures, texts)
        return Origin.Output(unique.getOrPut(call) { call }, name).also { known[key] = it }
    }

    private fun call(
        program: Program,
        pictures: List<Int>,
        texts: List<Int>,
    ) = Call(program, program.inputs.map { origin(it.from, pictures, texts) })

    private fun origin(
        source: Source,
        pictures: List<Int>,
        texts: List<Int>,
    ): Origin =
        when (source) {
            is Source.Picture -> Origin.Pixels(source.processing, chosen(pictures, listOf(source.index), "picture")[0])
            is Source.Text -> Origin.Ids(source.processing, chosen(texts, listOf(source.index), "text")[0], source.mask)
            is Source.Value -> value(source.name, chosen(pictures, source.pictures, "picture"), chosen(texts, source.texts, "text"))
            is Source.State -> Origin.State(source.name, source.start?.let { value(it, pictures, texts) })
            Source.Token -> Origin.Token
            Source.Step -> Origin.Step
        }
}

private fun chosen(
    items: List<Int>,
    wanted: List<Int>?,
    what: String,
): List<Int> =
    (wanted ?: return items).map { index ->
        items.getOrNull(index) ?: throw BadInput("the model reads $what ${index + 1} of a query, this one has ${items.size}")
    }
