package edgevl

import edgevl.bundle.Bundle
import edgevl.json.strictJson
import org.junit.Test
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertTrue

class GoldenTest {
    @Test
    fun `golden cases of every bundle`() {
        val folders = listOf("conformance/bundles", "mutants/bases").map { File(Fixtures.folder, it) }
        val bundles = folders.flatMap { it.listFiles()!!.filter { file -> file.name.endsWith(".edgevl") } }
        val replayed = bundles.associate { file -> file.name to Model.open(Bundle.open(file), Fixtures.runtime).use { it.replayGolden() } }
        assertTrue(replayed.size >= 20 && replayed.values.all { it >= 1 }, replayed.toString())
    }

    @Test
    fun `damaged bundles are refused where the board refuses them, and only there`() {
        val folder = File(Fixtures.folder, "mutants")
        val verdicts = strictJson(File(folder, "verdicts.json").readBytes()) as Map<*, *>
        val differ = ArrayList<String>()
        for ((name, verdict) in verdicts) {
            if (verdict == "crashed") continue
            val own = verdictOn(File(folder, (name as String).substringBefore(':') + "/x.edgevl"))
            if (own.substringBefore(':') != verdict) differ += "$name: $verdict on the board, here $own"
        }
        assertEquals(emptyList(), differ, "of ${verdicts.size}:\n" + differ.joinToString("\n"))
    }

    private fun verdictOn(folder: File): String =
        try {
            Model.open(Bundle.open(folder), Fixtures.runtime).use { it.replayGolden() }
            "fine"
        } catch (error: EdgeVLException) {
            "refused: ${error.message}"
        }
}
