package edgevl.text

import edgevl.bundle.TextProcessing
import java.text.Normalizer

private const val START = "<|startoftext|>"
private const val STOP = "<|endoftext|>"
private const val END_OF_WORD = "</w>"
private const val WORDS = "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
private const val SPECIAL_WORDS = "<\\|startoftext\\|>|<\\|endoftext\\|>|"
private val ENDINGS = listOf("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
private val BYTES = mapOf("type" to "ByteLevel", "add_prefix_space" to Anything, "trim_offsets" to Anything, "use_regex" to Anything)
private val FORMAT =
    mapOf(
        "version" to "1.0",
        "truncation" to Anything,
        "padding" to Anything,
        "normalizer" to
            mapOf(
                "type" to "Sequence",
                "normalizers" to
                    listOf(
                        mapOf("type" to "NFC"),
                        mapOf("type" to "Replace", "pattern" to mapOf("Regex" to "\\s+"), "content" to " "),
                        mapOf("type" to "Lowercase"),
                    ),
            ),
        "pre_tokenizer" to
            mapOf(
                "type" to "Sequence",
                "pretokenizers" to
                    listOf(
                        mapOf(
                            "type" to "Split",
                            "behavior" to "Removed",
                            "invert" to true,
                            "pattern" to mapOf("Regex" to OneOf(WORDS, SPECIAL_WORDS + WORDS)),
                        ),
                        BYTES + ("add_prefix_space" to false),
                    ),
            ),
        "post_processor" to Anything,
        "decoder" to BYTES,
    )
private val MODEL =
    mapOf(
        "type" to "BPE",
        "dropout" to OneOf(null, Missing),
        "unk_token" to STOP,
        "continuing_subword_prefix" to OneOf("", null),
        "end_of_word_suffix" to END_OF_WORD,
        "fuse_unk" to false,
        "byte_fallback" to OneOf(false, Missing),
        "ignore_merges" to OneOf(false, Missing),
    )
private val ADDED =
    mapOf(
        "content" to OneOf(START, STOP),
        "id" to Anything,
        "special" to true,
        "single_word" to false,
        "lstrip" to false,
        "rstrip" to false,
        "normalized" to Anything,
    )

/** CLIP's pieces, made of bytes, between start and end of text. */
internal class ByteBpe private constructor(
    spec: TextProcessing,
    vocabulary: Map<String, Int>,
    private val ranks: Map<Pair<String, String>, Int>,
    private val added: List<String>,
) : TextCodec(spec, vocabulary) {
    override fun pieces(text: String): List<Int> {
        val found = ArrayList<Int>()
        var from = 0
        while (from <= text.length) {
            val next = text.findAnyOf(added, from)
            val end = next?.first ?: text.length
            for (word in words(lower(Normalizer.normalize(text.substring(from, end), Normalizer.Form.NFC)))) found += merged(word)
            if (next == null) break
            found += vocabulary.getValue(next.second)
            from = end + next.second.length
        }
        return found
    }

    override fun join(pieces: List<String>): String {
        val symbols = pieces.joinToString("")
        val bytes = symbols.mapNotNull { BYTE_OF[it] }.toByteArray()
        return String(bytes, Charsets.UTF_8).replace(END_OF_WORD, " ").trim(' ')
    }

    /** Merge the pair that stands first among the merges, of equal ones the leftmost, until there is none. */
    private fun merged(word: String): List<Int> {
        val parts = Symbols(word.toByteArray(Charsets.UTF_8).map { SYMBOLS[it.toInt() and 255].toString() }, ranks)
        return parts.merged().map(vocabulary::getValue)
    }

    companion object {
        fun open(
            spec: TextProcessing,
            values: Any?,
        ): ByteBpe {
            val file = objectOf(values, "it")
            val model = objectOf(file["model"], "its model")
            compare(file - "model" - "added_tokens", FORMAT)
            compare(model - "vocab" - "merges", MODEL, "model.")
            val vocabulary = vocabularyOf(model["vocab"])
            val symbols = SYMBOLS.flatMap { listOf("$it", "$it$END_OF_WORD") }
            (symbols + START + STOP).firstOrNull { it !in vocabulary }?.let { throw WrongTokenizer("the vocabulary has no $it") }
            val pads = setOf(vocabulary[START], vocabulary[STOP])
            compareSpec(
                spec,
                mapOf(
                    "vocab_size" to (spec.vocabSize to vocabulary.size),
                    "pad_id" to (spec.padId to spec.padId.takeIf { it in pads }),
                    "start_id" to (spec.startId to vocabulary[START]),
                    "stop_id" to (spec.stopId to vocabulary[STOP]),
                    "empty" to (spec.allowsEmpty to true),
                ),
            )
            return ByteBpe(spec, vocabulary, ranksOf(model["merges"], vocabulary), addedOf(file["added_tokens"], vocabulary))
        }
    }
}

/** Order of each pair among the merges. Older files write a pair as one text with a blank. */
private fun ranksOf(
    value: Any?,
    vocabulary: Map<String, Int>,
): Map<Pair<String, String>, Int> {
    val merges = value as? List<*> ?: throw WrongTokenizer("model.merges is no list")
    if (merges.size > MAX_PIECES) throw WrongTokenizer("model.merges has more than $MAX_PIECES pairs")
    val ranks = HashMap<Pair<String, String>, Int>(2 * merges.size)
    merges.forEachIndexed { rank, merge ->
        val parts = (if (merge is String) merge.split(' ') else merge as? List<*>)?.filterIsInstance<String>()
        val isPair = parts?.size == 2 && (merge is String || (merge as List<*>).size == 2)
        if (!isPair || (parts + parts.joinToString("")).any { it !in vocabulary }) {
            throw WrongTokenizer("model.merges has a pair whose parts or whole are no pieces of the vocabulary")
        }
        if (ranks.put(parts[0] to parts[1], rank) != null) throw WrongTokenizer("model.merges has the pair $parts twice")
    }
    return ranks
}

private fun addedOf(
    value: Any?,
    vocabulary: Map<String, Int>,
): List<String> {
    val tokens = (value ?: emptyList<Any>()) as? List<*> ?: throw WrongTokenizer("added_tokens is no list")
    return tokens.mapIndexed { number, token ->
        val fields = objectOf(token, "added_tokens.$number")
        compare(fields, ADDED, "added_tokens.$number.")
        val content = fields["content"] as String
        if (fields["id"] != vocabulary[content]?.toLong()) throw WrongTokenizer("added_tokens.$number.id is not that of the vocabulary")
        content
    }
}

/** Words of a text: from left to right an ending, a run of letters, one number, or a run of what is none of these. */
private fun words(text: String): List<String> {
    val found = ArrayList<String>()
    var at = 0
    while (at < text.length) {
        val kind = kindOf(text.codePointAt(at))
        val ending = ENDINGS.firstOrNull { text.startsWith(it, at) }
        var end = at + (ending?.length ?: Character.charCount(text.codePointAt(at)))
        if (ending == null && (kind == 'L' || kind == 'O')) {
            while (end < text.length && kindOf(text.codePointAt(end)) == kind) end += Character.charCount(text.codePointAt(end))
        }
        if (kind != 'S') found += text.substring(at, end)
        at = end
    }
    return found
}

private fun kindOf(point: Int): Char =
    when {
        CodePoints.letters.get(point) -> 'L'
        CodePoints.numbers.get(point) -> 'N'
        CodePoints.whiteSpace.get(point) -> 'S'
        else -> 'O'
    }

/** The symbol of each byte: those that print are themselves, the others follow from U+0100 on. */
private val SYMBOLS: CharArray = symbols()
private val BYTE_OF: Map<Char, Byte> = SYMBOLS.withIndex().associate { (byte, symbol) -> symbol to byte.toByte() }

private fun symbols(): CharArray {
    var next = 0x100
    return CharArray(256) { if (it in 0x21..0x7E || it in 0xA1..0xAC || it in 0xAE..0xFF) it.toChar() else (next++).toChar() }
}
