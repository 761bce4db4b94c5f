package edgevl

import edgevl.bundle.Bundle
import edgevl.conformance.Case
import edgevl.conformance.Suite
import edgevl.picture.pixels
import org.junit.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** docs/conformance.md, case by case: every kind must be there, and every case must pass. */
class ConformanceTest {
    private val suite = Suite(Fixtures.folder.resolve("conformance"))

    private fun all(
        kind: String,
        least: Int,
        check: (Case) -> String?,
    ) {
        val cases = suite.cases(kind)
        assertTrue(cases.size >= least, "${cases.size} cases of the kind $kind")
        val failed = cases.mapNotNull { case -> attempt(case, check)?.let { "${case.id}: $it" } }
        assertEquals(emptyList(), failed, "of ${cases.size}:\n" + failed.joinToString("\n"))
    }

    private fun attempt(
        case: Case,
        check: (Case) -> String?,
    ): String? =
        try {
            check(case)
        } catch (error: EdgeVLException) {
            "refused: ${error.message}"
        }

    private fun refused(what: () -> Unit): String? =
        try {
            what()
            "must be refused"
        } catch (_: EdgeVLException) {
            null
        }

    @Test
    fun `pictures become the same pixels`() =
        all("pixels", 100) { case ->
            val spec =
                suite
                    .bundle(case.bundle)
                    .manifest.imageProcessing
                    .getValue(case.text("processing"))
            val picture = suite.picture(case.text("picture"))
            val ways = listOfNotNull(picture.fromRaw, picture.fromPng)
            val wanted = case["sha256"] as String?
            ways.firstNotNullOfOrNull { read ->
                if (wanted == null) refused { spec.pixels(read()) } else suite.pixelsProblem(spec.pixels(read()), wanted)
            }
        }

    @Test
    fun `texts become the same token ids`() =
        all("ids", 100) { case ->
            val codec = suite.bundle(case.bundle).texts.getValue(case.text("processing"))
            val wanted = case.ints("ids")
            if (wanted == null) {
                refused { codec.encode(case.text("text")) }
            } else {
                val ids = codec.encode(case.text("text"))
                val same = ids.toList() == wanted && codec.mask(case.text("text")).toList() == case.ints("mask")
                val words = codec.decode(ids.toList())
                when {
                    !same -> "${ids.toList()}, it must be $wanted"
                    words != case["words"] -> "the words '$words', they must be '${case["words"]}'"
                    else -> null
                }
            }
        }

    @Test
    fun `queries get the same answers`() {
        val models = HashMap<String, Model>()
        all("answer", 20) { case ->
            val model = models.getOrPut(case.bundle) { Model.open(suite.bundle(case.bundle), Fixtures.runtime) }
            suite.answerProblem(case, model)
        }
        models.values.forEach(Model::close)
    }

    @Test
    fun `hostile bundles are refused`() =
        all("refuse", 10) { case ->
            refused {
                Model.open(Bundle.open(suite.folder.resolve(case.bundle)), Fixtures.runtime).close()
            }
        }
}
