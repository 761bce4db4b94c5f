package edgevl.docs

import edgevl.bundle.Bundle
import org.junit.Test
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The code of docs/android.md is code that was compiled, line by line. */
class DocumentTest {
    private val page = File("../../../docs/android.md").readText()
    private val source = unindented(File("src/test/kotlin/edgevl/docs/TenLines.kt").readText())

    private fun unindented(code: String) =
        code
            .lines()
            .map(String::trim)
            .filter {
                it.isNotEmpty() && !it.startsWith("import ")
            }.joinToString("\n")

    @Test
    fun `every example was compiled`() {
        val examples = Regex("```kotlin\n(.*?)```", RegexOption.DOT_MATCHES_ALL).findAll(page).map { it.groupValues[1] }.toList()
        assertTrue(examples.size >= 5)
        for (example in examples) assertTrue(unindented(example) in source, example)
    }

    @Test
    fun `it is ten lines`() {
        val first =
            page
                .substringAfter(
                    "```kotlin\n",
                ).substringBefore("```")
                .lines()
                .filter { it.isNotBlank() && !it.startsWith("import ") }
        val inside = first.map(String::trim).filter { it != "}" }
        assertTrue(inside.size <= 10, "${inside.size}")
    }

    @Test
    fun `what an app on the JVM does`() {
        val bundle = File(System.getProperty("edgevl.fixtures"), "conformance/bundles/nano-fp32-single.edgevl")
        val photo = File(bundle, "golden").listFiles()!!.minBy { it.name }
        val answer = onTheJvm(bundle, photo)
        assertEquals(true, (Bundle.open(bundle).labels!!).contains(answer))
    }
}
