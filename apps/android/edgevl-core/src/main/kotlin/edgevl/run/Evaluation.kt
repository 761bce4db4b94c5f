package edgevl.run

import edgevl.bundle.Bundle
import edgevl.bundle.refuse
import edgevl.picture.Picture
import edgevl.picture.pixels

internal typealias Outputs = Map<String, Tensor>

/** The numbers that the decoding reads: output -> rows. */
typealias Values = Map<String, List<FloatArray>>

/**
 * Pulls values through the sources of a manifest for one query.
 *
 * [memory] holds what was computed for these pictures before; what belongs to pictures alone is looked up there.
 */
internal class Evaluation(
    private val bundle: Bundle,
    private val sessions: Map<String, Session>,
    private val pictures: List<Picture>,
    private val texts: List<String>,
    private val memory: Map<Call, Outputs> = emptyMap(),
) {
    private val outputs = HashMap<Call, Outputs>()
    private val pixels = HashMap<Origin.Pixels, ByteArray>()
    private val ids = HashMap<Origin.Ids, IntArray>()

    /** How often each program ran. */
    val runs = LinkedHashMap<String, Int>()

    /** Return the values of a plan. [along]: tokens that a sequence follows at every step, whatever is best here. */
    fun values(
        plan: Plan,
        along: List<Int>?,
    ): Values {
        plan.calls.forEach(::run)
        val loop = plan.loop ?: return plan.rows.mapValues { (name, rows) -> rows.map { run(it.call).getValue(name).firstRow() } }
        return mapOf(loop.output to loop(loop, along))
    }

    /** Run what belongs to the pictures alone. */
    fun ofPictures(plan: Plan): Map<Call, Outputs> = plan.calls.filter { it.isOfPictures }.associateWith(::run)

    private fun run(call: Call): Outputs = memory[call] ?: outputs.getOrPut(call) { run(call, emptyMap(), 0, 0) }

    private fun run(
        call: Call,
        states: Outputs,
        token: Int,
        step: Int,
    ): Outputs {
        val inputs =
            call.inputs().associate { (spec, origin) ->
                spec.name to
                    when (origin) {
                        is Origin.Pixels -> Tensor.of(spec, pixels(origin))
                        is Origin.Ids -> Tensor.of(spec, ids(origin))
                        is Origin.Output -> run(origin.call).getValue(origin.name).fitted(spec.shape)
                        is Origin.State -> states.getValue(spec.name)
                        Origin.Token -> Tensor.of(spec, intArrayOf(token))
                        Origin.Step -> Tensor.of(spec, intArrayOf(step))
                    }
            }
        val name = call.program.name
        val found = sessions.getValue(name).run(inputs)
        runs[name] = (runs[name] ?: 0) + 1
        val fits = call.program.outputs.all { found[it.name]?.shape == it.shape && found[it.name]?.dtype == it.dtype }
        if (!fits) refuse("${call.program.artifact} gives other values than the manifest says")
        return found
    }

    private fun loop(
        loop: Loop,
        along: List<Int>?,
    ): List<FloatArray> {
        val carried = loop.call.inputs().mapNotNull { (spec, origin) -> (origin as? Origin.State)?.let { spec to it } }
        var states =
            carried.associate { (spec, state) ->
                spec.name to
                    (state.start?.let { run(it.call).getValue(it.name).fitted(spec.shape) } ?: Tensor.empty(spec.dtype, spec.shape))
            }
        var token = loop.start
        val rows = ArrayList<FloatArray>()
        for (step in 0 until minOf(loop.steps, along?.size ?: loop.steps)) {
            val found = run(loop.call, states, token, step)
            rows += found.getValue(loop.output).firstRow()
            token = along?.get(step) ?: indexOfLargest(rows.last())
            if (token == loop.stop) break
            states = carried.associate { (spec, state) -> spec.name to found.getValue(state.name) }
        }
        return rows
    }

    private fun pixels(origin: Origin.Pixels): ByteArray =
        pixels.getOrPut(origin) {
            bundle.manifest.imageProcessing
                .getValue(origin.processing)
                .pixels(pictures[origin.index])
        }

    private fun ids(origin: Origin.Ids): IntArray =
        ids.getOrPut(origin) {
            val codec = bundle.texts.getValue(origin.processing)
            val text = texts[origin.index]
            if (origin.mask) codec.mask(text) else codec.encode(text)
        }
}

/** Of equal numbers the first is the largest. */
internal fun indexOfLargest(row: FloatArray): Int {
    var best = 0
    for (index in row.indices) if (row[index] > row[best]) best = index
    return best
}
