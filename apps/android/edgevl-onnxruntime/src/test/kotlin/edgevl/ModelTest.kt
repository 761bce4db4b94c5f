package edgevl

import edgevl.bundle.Bundle
import edgevl.decoding.Classify
import edgevl.onnx.OnnxRuntime
import edgevl.picture.Picture
import edgevl.picture.readPng
import org.junit.Test
import java.io.File
import java.util.concurrent.Callable
import java.util.concurrent.Executors
import kotlin.math.abs
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNotEquals
import kotlin.test.assertTrue

class ModelTest {
    private val questions = listOf("what color is the car?", "how many objects are there?", "is there a dog?")

    private fun pictures(name: String): List<Picture> =
        File(Fixtures.bundle(name), "golden").listFiles()!!.sorted().map { readPng(it.readBytes()) }

    private fun scores(answer: Answer) =
        answer.values.values
            .first()
            .first()

    private fun near(
        a: FloatArray,
        b: FloatArray,
    ) = a.size == b.size && a.indices.all { abs(a[it] - b[it]) < 1e-3 }

    @Test
    fun `a picture that was looked at is encoded once`() =
        Fixtures.open("nano-fp32-split").use { model ->
            val picture = pictures("nano-fp32-split").first()
            val look = model.look(picture)
            for (question in questions) {
                val own = look.ask(question)
                assertEquals(mapOf("fusion" to 1), own.runs)
                val whole = model.ask(picture, question)
                assertEquals(mapOf("vision" to 1, "fusion" to 1), whole.runs)
                assertTrue(scores(own).contentEquals(scores(whole)))
            }
            val three = model.answer(Query(listOf(picture), questions))
            assertEquals(mapOf("vision" to 1, "fusion" to 3), three.runs)
            assertEquals(questions.map { look.ask(it).text }, three.words)
        }

    @Test
    fun `choices are the largest shares`() =
        Fixtures.open("nano-fp32-single").use { model ->
            val answer = model.ask(pictures("nano-fp32-single").first(), questions[0])
            val choices = answer.choices(3)
            assertEquals(answer.text, choices[0].label)
            assertTrue(choices.zipWithNext().all { (a, b) -> a.share >= b.share })
            val all = answer.choices(Int.MAX_VALUE)
            assertEquals((model.bundle.decoding as Classify).labels.toSet(), all.map { it.label }.toSet())
            assertEquals(1.0, all.sumOf { it.share }, 1e-9)
        }

    @Test
    fun `several threads get what one gets`() =
        Fixtures.open("nano-fp32-split").use { model ->
            val pictures = pictures("nano-fp32-split")
            val queries = pictures.flatMap { picture -> questions.map { picture to it } }
            val alone = queries.map { (picture, text) -> scores(model.ask(picture, text)) }
            val look = model.look(pictures[0])
            val pool = Executors.newFixedThreadPool(4)
            val found =
                (0 until 4 * queries.size).map { number ->
                    pool.submit(
                        Callable {
                            val (picture, text) = queries[number % queries.size]
                            if (picture === pictures[0] && number % 2 == 0) scores(look.ask(text)) else scores(model.ask(picture, text))
                        },
                    )
                }
            found.forEachIndexed { number, future -> assertTrue(near(alone[number % alone.size], future.get()), "$number") }
            pool.shutdown()
        }

    @Test
    fun `closing waits for those that are asking and refuses the others`() {
        val model = Fixtures.open("nano-fp32-single")
        val picture = pictures("nano-fp32-single").first()
        val pool = Executors.newFixedThreadPool(3)
        val asking =
            (0 until 60).map {
                pool.submit(Callable { runCatching { model.ask(picture, questions[it % 3]).text } })
            }
        asking[5].get()
        model.close()
        val (fine, late) = asking.map { it.get() }.partition { it.isSuccess }
        assertTrue(fine.isNotEmpty() && late.all { it.exceptionOrNull() is IllegalStateException }, "${late.map { it.exceptionOrNull() }}")
        pool.shutdown()
        model.close()
        assertFailsWith<IllegalStateException> { model.ask(picture, questions[0]) }
    }

    @Test
    fun `pictures are found by words`() =
        Fixtures.open("rank").use { model ->
            val index = PictureIndex<Int>(model)
            pictures("rank").forEachIndexed { number, picture -> index.add(number, picture) }
            val hits = index.search("a red car", count = 3)
            assertEquals(listOf(3, index.size >= 3), listOf(hits.size, true))
            assertTrue(hits.zipWithNext().all { (a, b) -> a.score >= b.score })
            val embedding = model.embed("a red car")
            assertEquals(1.0, embedding.sumOf { (it * it).toDouble() }, 1e-4)
            val best =
                pictures("rank").indices.maxBy { at ->
                    model.embed(pictures("rank")[at]).indices.sumOf {
                        embedding[it].toDouble() *
                            model.embed(pictures("rank")[at])[it]
                    }
                }
            assertEquals(best, hits[0].key)
            assertEquals(1.0, model.embedLabel("car").sumOf { (it * it).toDouble() }, 1e-4)
        }

    @Test
    fun `what cannot be asked is said`() {
        Fixtures.open("nano-fp32-single").use { model ->
            val picture = pictures("nano-fp32-single").first()
            assertFailsWith<BadInput> { model.ask(picture, " \t ") }
            assertFailsWith<BadInput> { model.answer(Query(emptyList(), questions)) }
            assertFailsWith<BadInput> { model.embed(picture) }
        }
        Fixtures.open("generate").use { assertFailsWith<BadInput> { it.answer(Query(pictures("generate").take(1), questions)) } }
    }

    @Test
    fun `a file that is exchanged while the app runs is noticed`() {
        val folder = Fixtures.copy("nano-fp32-single")
        val bundle = Bundle.open(folder)
        val artifact = File(folder, bundle.manifest.programs[0].artifact)
        artifact.writeBytes(artifact.readBytes().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() })
        val error = assertFailsWith<BundleRefused> { Model.open(bundle, Fixtures.runtime) }
        assertTrue("has changed" in error.message!!, error.message)
        folder.deleteRecursively()
    }

    @Test
    fun `a golden case that is not what the artifact gives is noticed`() {
        val folder = Fixtures.copy("nano-fp32-single")
        val other = Fixtures.bundle("nano-fp32-single").resolve("golden.json").readText()
        val number = Regex("\"data\": \\[\\s*(-?[0-9.]+)").find(other)!!.groups[1]!!
        val changed = other.replaceRange(number.range, (number.value.toDouble() - 5).toString())
        assertNotEquals(other, changed)
        folder.resolve("golden.json").writeText(changed)
        val digest =
            java.security.MessageDigest
                .getInstance("SHA-256")
                .digest(changed.toByteArray())
                .joinToString("") { "%02x".format(it) }
        val manifest = folder.resolve("manifest.json")
        val entry = Regex("(\"golden.json\": \\{\\s*\"sha256\": \")[0-9a-f]+(\",\\s*\"bytes\": )[0-9]+")
        manifest.writeText(
            entry.replace(manifest.readText()) { it.groupValues[1] + digest + it.groupValues[2] + changed.toByteArray().size },
        )
        Model.open(Bundle.open(folder), Fixtures.runtime).use { model -> assertFailsWith<BundleRefused> { model.replayGolden() } }
        folder.deleteRecursively()
    }

    @Test
    fun `a sequence ends with the stop token`() {
        val pictures = pictures("generate").take(1)
        val whole = Fixtures.open("generate").use { model -> model.answer(Query(pictures)).result }
        assertTrue(whole.size > 1, whole.toString())
        val folder = Fixtures.copy("generate")
        val manifest = folder.resolve("manifest.json")
        val stop = Regex("\"stop\": [0-9]+")
        assertTrue(stop.containsMatchIn(manifest.readText()))
        manifest.writeText(stop.replace(manifest.readText(), "\"stop\": ${whole[0]}"))
        Model.open(Bundle.open(folder), Fixtures.runtime).use { assertEquals(whole.take(1), it.answer(Query(pictures)).result) }
        folder.deleteRecursively()
    }

    @Test
    fun `ONNX Runtime is told to report nothing`() {
        assertEquals("1", System.getenv("ORT_DISABLE_TELEMETRY"))
        assertTrue(OnnxRuntime(1).name.startsWith("onnxruntime 1."))
    }
}
