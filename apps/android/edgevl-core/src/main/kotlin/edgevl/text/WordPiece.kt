package edgevl.text

import edgevl.bundle.TextProcessing
import java.text.Normalizer

private const val UNKNOWN = "[UNK]"
private const val MAX_WORD = 100
private val SPECIAL = listOf("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
private val FORMAT =
    mapOf(
        "version" to "1.0",
        "truncation" to null,
        "padding" to null,
        "added_tokens" to emptyList<Any>(),
        "normalizer" to
            mapOf(
                "type" to "BertNormalizer",
                "clean_text" to true,
                "handle_chinese_chars" to true,
                "strip_accents" to null,
                "lowercase" to true,
            ),
        "pre_tokenizer" to mapOf("type" to "BertPreTokenizer"),
        "post_processor" to null,
        "decoder" to null,
    )
private val MODEL =
    mapOf(
        "type" to "WordPiece",
        "unk_token" to UNKNOWN,
        "continuing_subword_prefix" to "##",
        "max_input_chars_per_word" to MAX_WORD.toLong(),
    )

/** BERT's pieces between [CLS] and [SEP]. */
internal class WordPiece private constructor(
    spec: TextProcessing,
    vocabulary: Map<String, Int>,
) : TextCodec(spec, vocabulary) {
    private val unknown = vocabulary.getValue(UNKNOWN)
    private val pad = SPECIAL.first()

    override fun pieces(text: String): List<Int> = words(text).flatMap(::piecesOf)

    override fun join(pieces: List<String>): String = pieces.filter { it != pad }.joinToString(" ").replace(" ##", "")

    /** The longest known prefix, again and again; [UNK] for the whole word if one part is unknown. */
    private fun piecesOf(word: String): List<Int> {
        if (word.codePointCount(0, word.length) > MAX_WORD) return listOf(unknown)
        val found = ArrayList<Int>()
        var start = 0
        while (start < word.length) {
            val prefix = if (start > 0) "##" else ""
            val end = (word.length downTo start + 1).firstOrNull { prefix + word.substring(start, it) in vocabulary }
            found += vocabulary.getValue(prefix + word.substring(start, end ?: return listOf(unknown)))
            start = end
        }
        return found
    }

    private fun words(text: String): List<String> {
        val spaced = StringBuilder()
        eachPoint(text) { point ->
            when {
                CodePoints.blank.get(point) -> spaced.append(' ')
                CodePoints.removed.get(point) -> {}
                CodePoints.cjk.get(point) -> spaced.append(' ').appendCodePoint(point).append(' ')
                else -> spaced.appendCodePoint(point)
            }
        }
        val plain = StringBuilder()
        eachPoint(Normalizer.normalize(spaced, Normalizer.Form.NFD)) { if (!CodePoints.marks.get(it)) plain.appendCodePoint(it) }
        val parted = StringBuilder()
        eachPoint(lower(plain.toString())) { point ->
            if (CodePoints.punctuation.get(point)) parted.append(' ').appendCodePoint(point).append(' ') else parted.appendCodePoint(point)
        }
        return parted.split(' ').filter(String::isNotEmpty)
    }

    companion object {
        fun open(
            spec: TextProcessing,
            values: Any?,
        ): WordPiece {
            val file = objectOf(values, "it")
            val model = objectOf(file["model"], "its model")
            compare(file - "model", FORMAT)
            compare(model - "vocab", MODEL, "model.")
            val vocabulary = vocabularyOf(model["vocab"])
            SPECIAL.firstOrNull { it !in vocabulary }?.let { throw WrongTokenizer("it has no $it token") }
            compareSpec(
                spec,
                mapOf(
                    "vocab_size" to (spec.vocabSize to vocabulary.size),
                    "pad_id" to (spec.padId to vocabulary["[PAD]"]),
                    "start_id" to (spec.startId to vocabulary["[CLS]"]),
                    "stop_id" to (spec.stopId to vocabulary["[SEP]"]),
                    "empty" to (spec.allowsEmpty to false),
                ),
            )
            if (spec.padId != 0) throw WrongTokenizer("[PAD] is ${spec.padId}, it must be 0")
            return WordPiece(spec, vocabulary)
        }
    }
}
