package edgevl.conformance

import edgevl.Answer
import edgevl.Model
import edgevl.Query
import edgevl.bundle.Bundle
import edgevl.decoding.Decisions
import edgevl.json.strictJson
import edgevl.picture.Picture
import edgevl.picture.readPng
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import kotlin.math.abs
import kotlin.math.log10

private const val SHARE_STEP = 1e-5

/** An entry of `cases`. */
class Case(
    private val values: Map<*, *>,
) {
    val id = text("id")
    val bundle get() = text("bundle")

    operator fun get(key: String): Any? = values[key]

    fun text(key: String) = values[key] as String

    fun ints(key: String): List<Int>? = (values[key] as List<*>?)?.map { (it as Long).toInt() }
}

/** A picture of the suite, and the ways to read it here; null where there is none. */
class SuitePicture(
    val file: File,
    val format: String,
    val isLossless: Boolean,
    val fromRaw: (() -> Picture)?,
) {
    val fromPng: (() -> Picture)? = if (format == "png") ({ readPng(file.readBytes()) }) else null
}

/** What `edgevl app conformance` wrote into [folder], see docs/conformance.md. */
class Suite(
    val folder: File,
) {
    private val list = strictJson(File(folder, "conformance.json").readBytes()) as Map<*, *>
    private val opened = HashMap<String, Bundle>()

    init {
        check(list["version"] == 1L) { "the suite has version ${list["version"]}, these tests read 1" }
    }

    fun cases(kind: String): List<Case> = (list["cases"] as List<*>).map { it as Map<*, *> }.filter { it["kind"] == kind }.map(::Case)

    fun bundle(name: String): Bundle =
        opened.getOrPut(name) {
            val entry = (list["bundles"] as Map<*, *>)[name] as Map<*, *>
            Bundle.open(File(folder, entry["path"] as String))
        }

    fun picture(name: String): SuitePicture {
        val entry = (list["pictures"] as Map<*, *>)[name] as Map<*, *>

        fun number(key: String) = (entry[key] as Long).toInt()
        val raw = entry["raw"] as String?
        val fromRaw = {
            val samples = File(folder, raw!!).readBytes()
            Picture.ofSamples(samples, number("width"), number("height"), number("channels"), number("depth"), number("orientation"))
        }
        return SuitePicture(
            File(folder, entry["file"] as String),
            entry["format"] as String,
            entry["lossless"] == true,
            if (raw ==
                null
            ) {
                null
            } else {
                fromRaw
            },
        )
    }

    fun pixelsProblem(
        pixels: ByteArray,
        wanted: String,
    ): String? {
        val own = MessageDigest.getInstance("SHA-256").digest(pixels).joinToString("") { "%02x".format(it) }
        return if (own == wanted) null else "other pixels"
    }

    /** Say how the answer to a case is not what it must be; null if it is. */
    fun answerProblem(
        case: Case,
        model: Model,
    ): String? {
        val pictures = (case["pictures"] as List<*>).map { picture(it as String).fromRaw!!() }
        val query = Query(pictures, (case["texts"] as List<*>).map { it as String })
        val isSequence = model.bundle.decoding.kind == "generate"
        val result = (case["result"] as List<*>).map { if (it is Long) it.toInt() else it!! }
        val own = if (isSequence) model.answerAlong(query, result.map { it as Int }) else model.answer(query)
        val free = if (isSequence) model.answer(query) else own
        return valuesProblem(case, own) ?: resultProblem(case, model, result, free) ?: runsProblem(case, free) ?: sharesProblem(case, own)
    }

    private fun floats(path: String): FloatArray {
        val bytes = ByteBuffer.wrap(File(folder, path).readBytes()).order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray(bytes.remaining() / 4).also { bytes.asFloatBuffer().get(it) }
    }

    private fun valuesProblem(
        case: Case,
        own: Answer,
    ): String? {
        for ((output, each) in case["values"] as Map<*, *>) {
            val wanted = floats((each as Map<*, *>)["file"] as String)
            val found = own.values[output]?.flatMap { it.toList() } ?: return "$output is missing"
            val shape = (each["shape"] as List<*>).map { (it as Long).toInt() }
            if (found.size != wanted.size || own.values.getValue(output as String).size != shape[0]) return "$output has another shape"
            val noise = found.indices.sumOf { (found[it] - wanted[it]).toDouble().let { d -> d * d } }
            val ratio = 10 * log10(wanted.sumOf { it.toDouble() * it } / noise)
            if (!(ratio >= (each["snr_db"] as Number).toDouble())) return "$output: $ratio dB"
        }
        return null
    }

    private fun resultProblem(
        case: Case,
        model: Model,
        result: List<Any>,
        own: Answer,
    ): String? {
        val unclear = (case["unclear"] as Number).toDouble()
        val margins = (case["margins"] as List<*>).map { (it as Number).toDouble() }
        if (!model.bundle.decoding.same(
                own.result,
                Decisions(result, margins),
                unclear,
            )
        ) {
            return "the result is ${own.result}, it must be $result"
        }
        val words = case["words"] as String? ?: return null
        return if (margins.all { it > unclear } && own.words != listOf(words)) "the words are ${own.words}, they must be $words" else null
    }

    private fun runsProblem(
        case: Case,
        own: Answer,
    ): String? {
        val runs = (case["runs"] as Map<*, *>?)?.mapValues { (it.value as Long).toInt() } ?: return null
        return if (runs.filterValues { it > 0 } == own.runs) null else "the programs ran ${own.runs}, it must be $runs"
    }

    private fun sharesProblem(
        case: Case,
        own: Answer,
    ): String? {
        val shares = case["shares"] as Map<*, *>? ?: return null
        val recorded = (case["values"] as Map<*, *>).keys.size == own.values.size
        val wanted = floats(shares["file"] as String)
        val found = own.shares.orEmpty().flatMap { it.toList() }
        val near = found.size == wanted.size && found.indices.all { abs(found[it] - wanted[it]) <= SHARE_STEP + tolerance(case) }
        return if (recorded && near) null else "other shares"
    }

    /** Shares are compared as made of our own values, which may differ a little by themselves. */
    private fun tolerance(case: Case) = if (case.bundle.contains("w8")) 0.05 else 1e-4
}
