package edgevl

import edgevl.bundle.Json
import edgevl.bundle.ints
import edgevl.bundle.obj
import edgevl.bundle.objects
import edgevl.bundle.refuse
import edgevl.bundle.sha256
import edgevl.decoding.Decisions
import edgevl.decoding.SLACK
import edgevl.picture.Picture
import edgevl.picture.pixels
import edgevl.picture.readPng
import edgevl.run.Values
import kotlin.math.abs

private const val MOST_VALUES = 1L shl 24
private const val CLOSE = 1e-4 // of a recorded margin, beside the one that follows from the values
private const val FLOAT_STEP = 1e-6 // they are read as floats

/**
 * Replay the golden cases of a bundle and return how many there are: this device, this runtime, this library against the
 * model as it was trained. An app runs it once, in a self-test. Throws [BundleRefused] naming the first case that fails.
 */
fun Model.replayGolden(): Int {
    val golden = bundle.golden
    val tolerance = golden.obj("tolerance").mapValues { (it.value as Number).toDouble() }
    val cases = golden.objects("cases").mapIndexed { number, case -> GoldenCase(this, case, "golden case ${number + 1}") }
    cases.forEach { it.replay(tolerance) }
    return cases.size
}

private class GoldenCase(
    private val model: Model,
    private val case: Json,
    private val name: String,
) {
    private val bundle = model.bundle
    private val texts = (case["texts"] as List<*>).map { it as String }

    fun replay(tolerance: Map<String, Double>) {
        val pictures = (case["pictures"] as List<*>).map { readPng(bundle.read(it as String)) }
        checkPixels(pictures)
        checkIds()
        val (values, recorded) = recorded()
        val query = Query(pictures, texts)
        val tokens = recorded.result.filterIsInstance<Int>()
        val own = if (bundle.decoding.kind == "generate") model.answerAlong(query, tokens) else model.answer(query)
        for ((output, rows) in values) compare(output, own.values[output].orEmpty(), rows, tolerance[output] ?: 0.0)
        if (!bundle.decoding.same(
                own.result,
                recorded,
                SLACK * tolerance.values.max(),
            )
        ) {
            fails("the result is ${own.result}, recorded is ${recorded.result}")
        }
    }

    private fun checkPixels(pictures: List<Picture>) {
        val digests = case.obj("pixels_sha256")
        for ((processing, spec) in bundle.manifest.imageProcessing) {
            if (pictures.map { sha256(spec.pixels(it)) } != digests[processing]) fails("other pixels than recorded, by $processing")
        }
    }

    private fun checkIds() {
        val recorded = case.obj("input_ids")
        for ((processing, codec) in bundle.texts) {
            val wanted = (recorded[processing] as List<*>?)?.map { ids -> (ids as List<*>).map { (it as Long).toInt() } }
            if (texts.map { codec.encode(it).toList() } != wanted) fails("other token ids than recorded, by $processing")
        }
    }

    /** Return the recorded values, NaN where nothing is stored, and the recorded result, which must follow from them. */
    private fun recorded(): Pair<Values, Decisions> {
        val stored = case.obj("values").keys.associateWith { rows(case.obj("values").obj(it)) }
        val lowest =
            stored.mapValues { (_, rows) ->
                rows.map { row -> FloatArray(row.size) { if (row[it].isNaN()) -Float.MAX_VALUE else row[it] } }
            }
        val decided = bundle.decoding.decide(lowest)
        val result = case["result"] as List<*>
        val follows = decided.result.size == result.size && result.indices.all { bundle.decoding.follows(decided.result[it], result[it]) }
        if (!follows) fails("the recorded result does not follow from the recorded values")
        if (!marginsFollow(decided.margins)) fails("the recorded margins do not follow from the recorded values")
        return stored to decided
    }

    private fun marginsFollow(own: List<Double>): Boolean {
        val recorded = (case["margins"] as List<*>).map { (it as Number).toDouble() }
        return own.size == recorded.size && own.indices.all { abs(own[it] - recorded[it]) <= CLOSE + FLOAT_STEP * abs(own[it]) }
    }

    private fun rows(values: Json): List<FloatArray> {
        val shape = values.ints("shape")
        val width = shape.drop(1).fold(1L) { product, side -> product * side }
        if (width * shape[0] > MOST_VALUES ||
            (values["data"] == null) == (values["top"] == null)
        ) {
            fails("its values do not fit their shape")
        }
        if (values["data"] == null) return (values["top"] as List<*>).map { topRow(it as List<*>, width.toInt()) }
        val data = (values["data"] as List<*>).map { (it as Number).toFloat() }
        if (data.size.toLong() != width * shape[0]) fails("its values do not fit their shape")
        return data.chunked(width.toInt()).map { it.toFloatArray() }
    }

    private fun topRow(
        pairs: List<*>,
        width: Int,
    ): FloatArray {
        val row = FloatArray(width) { Float.NaN }
        for (pair in pairs) {
            val (index, value) = pair as List<*>
            if (index as Long >= width) fails("an index of its values is beyond their shape")
            row[index.toInt()] = (value as Number).toFloat()
        }
        return row
    }

    private fun compare(
        output: String,
        own: List<FloatArray>,
        wanted: List<FloatArray>,
        allowed: Double,
    ) {
        val fits = own.size == wanted.size && own.indices.all { own[it].size == wanted[it].size }
        if (!fits) fails("$output has another shape than recorded")
        for ((row, stored) in own.zip(wanted)) {
            for (at in row.indices) {
                val difference = abs(row[at].toDouble() - stored[at])
                if (!stored[at].isNaN() && !(difference <= allowed)) fails("$output differs by $difference, at most $allowed is allowed")
            }
        }
    }

    private fun fails(what: String): Nothing = refuse("$name: $what")
}
