package edgevl.json

import java.math.BigInteger
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

/** What is wrong with a text, as the end of a sentence that begins with the name of its file. */
class Unreadable(
    message: String,
) : Exception(message)

private const val MAX_DEPTH = 32
private const val DIGITS_OF_A_DOUBLE = 310

/**
 * Parse JSON strictly: UTF-8 without a byte order mark, no NaN, no number beyond a double, no half a surrogate pair, no
 * key twice, at most 32 levels.
 *
 * Returns Map<String, Any?>, List<Any?>, String, Boolean, Double, null, and for integers Long, or BigInteger beyond it.
 * Throws [Unreadable].
 */
fun strictJson(bytes: ByteArray): Any? = Parser(decoded(bytes)).parse()

private fun decoded(bytes: ByteArray): String =
    try {
        val decoder = Charsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPORT)
        decoder.decode(ByteBuffer.wrap(bytes)).toString()
    } catch (_: CharacterCodingException) {
        throw Unreadable("is not UTF-8 text")
    }

private class Parser(
    private val text: String,
) {
    private var at = 0

    fun parse(): Any? {
        val value = value(0)
        skipBlanks()
        if (at < text.length) fail("there is more behind the value")
        return value
    }

    private fun value(depth: Int): Any? {
        skipBlanks()
        return when (peek()) {
            '{' -> objectAt(depth)
            '[' -> listAt(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun objectAt(depth: Int): Map<String, Any?> {
        val values = LinkedHashMap<String, Any?>()
        entries('}', depth) {
            if (peek() != '"') fail("a key must be a text")
            val key = string()
            skipBlanks()
            expect(':')
            if (key in values) fail("a key occurs twice")
            values[key] = value(depth + 1)
        }
        return values
    }

    private fun listAt(depth: Int): List<Any?> {
        val values = ArrayList<Any?>()
        entries(']', depth) { values += value(depth + 1) }
        return values
    }

    /** Read what stands between brackets, with commas. */
    private fun entries(
        end: Char,
        depth: Int,
        entry: () -> Unit,
    ) {
        if (depth == MAX_DEPTH) fail("more than $MAX_DEPTH levels")
        at++
        skipBlanks()
        if (peek() == end) {
            at++
            return
        }
        while (true) {
            skipBlanks()
            entry()
            skipBlanks()
            if (peek() == end) break
            expect(',')
        }
        at++
    }

    private fun string(): String {
        at++
        val found = StringBuilder()
        while (true) {
            val char = next()
            when {
                char == '"' -> break
                char == '\\' -> found.append(escaped())
                char < ' ' -> fail("a control character in a text")
                else -> found.append(char)
            }
        }
        return found.toString().also { if (hasHalfAPair(it)) fail("half a surrogate pair") }
    }

    private fun escaped(): Char =
        when (val char = next()) {
            '"', '\\', '/' -> char
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> hexadecimal()
            else -> fail("an escape that JSON does not have")
        }

    private fun hexadecimal(): Char {
        var code = 0
        repeat(4) {
            val digit = next()
            val value = "0123456789abcdef".indexOf(digit.lowercaseChar())
            if (value < 0 || digit.code > 'f'.code) fail("an escape that JSON does not have")
            code = code * 16 + value
        }
        return code.toChar()
    }

    private fun number(): Any {
        val match = NUMBER.matcher(text).region(at, text.length)
        if (!match.lookingAt()) fail("no value of JSON")
        at = match.end()
        val digits = match.group()
        val whole = match.group(1) == null && match.group(2) == null
        return if (whole) integer(digits) else digits.toDouble().also { if (it.isInfinite()) fail(TOO_LARGE) }
    }

    private fun integer(digits: String): Any {
        digits.toLongOrNull()?.let { return it }
        if (digits.length > DIGITS_OF_A_DOUBLE || digits.toDouble().isInfinite()) fail(TOO_LARGE)
        return BigInteger(digits)
    }

    private fun word(
        word: String,
        value: Any?,
    ): Any? {
        if (!text.startsWith(word, at)) fail("no value of JSON")
        at += word.length
        return value
    }

    private fun skipBlanks() {
        while (at < text.length && text[at] in BLANKS) at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("it ends too early")

    private fun next(): Char = peek().also { at++ }

    private fun expect(char: Char) {
        if (next() != char) fail("'$char' is missing")
    }

    private fun fail(what: String): Nothing = throw Unreadable("$what (character $at)")

    private companion object {
        const val BLANKS = " \t\n\r"
        const val TOO_LARGE = "a number beyond a double"
        val NUMBER: java.util.regex.Pattern =
            java.util.regex.Pattern
                .compile("-?(?:0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
    }
}

internal fun hasHalfAPair(text: String): Boolean {
    var at = 0
    while (at < text.length) {
        val pair = Character.isHighSurrogate(text[at]) && at + 1 < text.length && Character.isLowSurrogate(text[at + 1])
        if (!pair && text[at].isSurrogate()) return true
        at += if (pair) 2 else 1
    }
    return false
}
