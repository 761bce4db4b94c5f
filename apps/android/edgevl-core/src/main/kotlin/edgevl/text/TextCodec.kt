package edgevl.text

import edgevl.BadInput
import edgevl.bundle.TextProcessing
import edgevl.bundle.refuse
import java.util.Locale

/** Texts to token ids and back, as a manifest's `text_processing` declares. Safe to use from several threads. */
abstract class TextCodec internal constructor(
    internal val spec: TextProcessing,
    internal val vocabulary: Map<String, Int>,
) {
    private val pieces: Array<String?> = arrayOfNulls<String>(vocabulary.size).also { for ((piece, id) in vocabulary) it[id] = piece }
    private val special = listOfNotNull(spec.startId, spec.stopId)

    /** Return the ids of the pieces that a text falls into, as many as there are. */
    internal abstract fun pieces(text: String): List<Int>

    /** Return the text of pieces without special tokens. */
    internal abstract fun join(pieces: List<String>): String

    /** Return T token ids. Throws [BadInput] for a text without a single piece where the bundle refuses those. */
    fun encode(text: String): IntArray {
        val framed = framed(text)
        return IntArray(spec.length) { if (it < framed.size) framed[it] else spec.padId }
    }

    /** Return T numbers: 1 for start, pieces and stop, 0 for the padding behind them, whatever its id. */
    fun mask(text: String): IntArray {
        val count = framed(text).size
        return IntArray(spec.length) { if (it < count) 1 else 0 }
    }

    private fun framed(text: String): List<Int> {
        val found = pieces(text)
        if (found.isEmpty() && !spec.allowsEmpty) throw BadInput("the text is empty: ask something in words")
        val before = listOfNotNull(spec.startId)
        val after = listOfNotNull(spec.stopId)
        return before + found.take(spec.length - before.size - after.size) + after
    }

    /** Return the words of token ids. */
    fun decode(ids: List<Int>): String = join(ids.filter { it !in special && it in pieces.indices }.map { pieces[it]!! })

    internal companion object {
        /** Open a tokenizer from its parsed file. Throws `BundleRefused` for a kind or a setting that is not known. */
        fun open(
            spec: TextProcessing,
            values: Any?,
        ): TextCodec =
            try {
                when (spec.kind) {
                    "wordpiece" -> WordPiece.open(spec, values)
                    "byte-bpe" -> ByteBpe.open(spec, values)
                    else -> throw WrongTokenizer("its kind ${spec.kind} is not known to this library: update it")
                }
            } catch (error: WrongTokenizer) {
                refuse("${spec.file} cannot be read as a tokenizer: ${error.message}")
            }
    }
}

internal class WrongTokenizer(
    message: String,
) : Exception(message)

/** Lower case of each code point by itself: Unicode's full mapping, without its rules of context. */
internal fun lower(text: String): String {
    val result = StringBuilder(text.length)
    var at = 0
    while (at < text.length) {
        val point = text.codePointAt(at)
        at += Character.charCount(point)
        result.append(
            if (point <
                128
            ) {
                Character.toLowerCase(point).toChar().toString()
            } else {
                String(Character.toChars(point)).lowercase(Locale.ROOT)
            },
        )
    }
    return result.toString()
}

internal inline fun eachPoint(
    text: String,
    use: (Int) -> Unit,
) {
    var at = 0
    while (at < text.length) {
        val point = text.codePointAt(at)
        use(point)
        at += Character.charCount(point)
    }
}
