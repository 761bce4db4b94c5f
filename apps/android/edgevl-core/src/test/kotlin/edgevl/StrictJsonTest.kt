package edgevl

import edgevl.json.Unreadable
import edgevl.json.strictJson
import org.junit.Test
import java.math.BigInteger
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

class StrictJsonTest {
    private fun parsed(text: String) = strictJson(text.toByteArray())

    @Test
    fun `values of every kind`() {
        val wanted =
            mapOf(
                "a" to listOf(1L, -2.5, 1e3, true, null),
                "b" to "\u00e9\ud83d\ude00\n/",
                "c" to BigInteger("123456789012345678901"),
            )
        assertEquals(
            wanted,
            parsed(" {\"a\": [1, -2.5, 1E3, true, null], \"b\": \"\\u00e9\\ud83d\\uDE00\\n\\/\", \"c\": 123456789012345678901}\n"),
        )
    }

    @Test
    fun `what readers take differently is refused`() {
        val bad =
            listOf(
                "",
                "nul",
                "[1,]",
                "{\"a\":1,}",
                "{\"a\":1 \"b\":2}",
                "{a:1}",
                "'a'",
                "01",
                "1.",
                ".5",
                "+1",
                "- 1",
                "NaN",
                "Infinity",
                "-Infinity",
                "1e999",
                "-1e999",
                "9".repeat(400),
                "{\"a\":1,\"a\":2}",
                "\"\\ud800\"",
                "\"\\udc00\\ud800\"",
                "\"\\x41\"",
                "\"\\u12g4\"",
                "\"a\nb\"",
                "\"a",
                "[1] 2",
                "\uFEFF1",
                "[".repeat(33) + "]".repeat(33),
                "[".repeat(100_000),
                "{\"a\":".repeat(40) + "1" + "}".repeat(40),
            )
        for (text in bad) assertFailsWith<Unreadable>(text.take(40)) { parsed(text) }
        assertFailsWith<Unreadable> { strictJson(byteArrayOf('"'.code.toByte(), 0xC3.toByte(), '"'.code.toByte())) }
        parsed("[".repeat(32) + "]".repeat(32))
    }
}
