package edgevl

import org.junit.Test
import java.io.File
import kotlin.test.assertEquals

class CodePointsTest {
    @Test
    fun `the sets are those of the appendix of the document`() {
        val page = File("../../../docs/bundle.md").readText()
        val own =
            CodePointsTest::class.java
                .getResource("/edgevl/code-points.txt")!!
                .readText()
                .lines()
                .drop(1)
        val wanted =
            Regex("\\*([a-z ]+)\\*\n\n```\n(.*?)```", RegexOption.DOT_MATCHES_ALL).findAll(page).flatMap {
                listOf("= " + it.groupValues[1]) +
                    it.groupValues[2].trim().lines()
            }
        assertEquals(wanted.toList(), own.filter(String::isNotEmpty))
    }
}
