package edgevl.android

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.ColorSpace
import android.net.Uri
import edgevl.BadInput
import edgevl.EdgeVLException
import edgevl.bundle.ImageProcessing
import edgevl.conformance.Suite
import edgevl.conformance.SuitePicture
import edgevl.picture.Picture
import edgevl.picture.pixels
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.ByteArrayInputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import kotlin.math.abs
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

/** What Android 15's own decoders make of a picture, held to the contract. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class PicturesTest {
    private val suite = Suite(File(System.getProperty("edgevl.fixtures"), "conformance"))
    private val resolver: ContentResolver get() = RuntimeEnvironment.getApplication().contentResolver
    private val readHere = setOf("png", "jpeg", "webp")

    @Test
    fun `files of the conformance suite`() {
        val failed = ArrayList<String>()
        val seen = HashMap<String, Int>()
        for (case in suite.cases("pixels")) {
            val picture = suite.picture(case.text("picture"))
            val spec =
                suite
                    .bundle(case.bundle)
                    .manifest.imageProcessing
                    .getValue(case.text("processing"))
            seen.merge(picture.format, 1, Int::plus)
            val wanted = if (case["sha256"] == null) null else File(suite.folder, case.text("tensor_file")).readBytes()
            problem(picture, spec, wanted)?.let { failed += "${case.id} (${picture.format}): $it" }
        }
        assertTrue(readHere.all { (seen[it] ?: 0) >= 10 }, seen.toString())
        assertEquals(emptyList(), failed, "$seen\n" + failed.joinToString("\n"))
    }

    private fun problem(
        picture: SuitePicture,
        spec: ImageProcessing,
        wanted: ByteArray?,
    ): String? {
        val own =
            try {
                spec.pixels(Pictures.read(picture.file.readBytes()))
            } catch (error: EdgeVLException) {
                return if (wanted == null || picture.format !in readHere) null else "refused: ${error.message}"
            }
        if (wanted == null) return "must be refused"
        if (picture.format !in readHere) return "is read, and no test holds it to the contract"
        val differences = own.indices.map { abs((own[it].toInt() and 255) - (wanted[it].toInt() and 255)) }
        val fits = if (picture.isLossless) differences.max() == 0 else differences.average() <= 8
        return if (fits) null else "differs by ${differences.average()} on average, at most by ${differences.max()}"
    }

    @Test
    fun `a picture behind a content URI`() {
        val uri = Uri.parse("content://media/picker/1")
        val file =
            suite
                .cases("pixels")
                .map { suite.picture(it.text("picture")) }
                .first { it.format == "jpeg" }
                .file
        shadowOf(resolver).registerInputStream(uri, ByteArrayInputStream(file.readBytes()))
        assertSame(Pictures.read(file.readBytes()), Pictures.read(resolver, uri))
        val gone = Uri.parse("content://media/picker/2")
        val broken =
            object : InputStream() {
                override fun read() = throw IOException("it was deleted")
            }
        shadowOf(resolver).registerInputStream(gone, broken)
        assertFailsWith<BadInput> { Pictures.read(resolver, gone) }
    }

    @Test
    fun `files that are no pictures, or not whole`() {
        val files = suite.cases("pixels").filter { it["sha256"] != null }.map { suite.picture(it.text("picture")) }
        for (format in readHere) {
            val whole = files.first { it.format == format && it.file.length() > 200 }.file.readBytes()
            assertFailsWith<BadInput>(format) { Pictures.read(whole.copyOf(whole.size / 2)) }
            assertFailsWith<BadInput>(format) { Pictures.read(whole.copyOf(20)) }
        }
        for (text in listOf("", "hello", "GIF89a")) assertFailsWith<BadInput> { Pictures.read(text.toByteArray()) }
    }

    @Test
    fun `a bitmap as it is`() {
        val colors =
            intArrayOf(
                0xFF102030.toInt(),
                0xFFFFFFFF.toInt(),
                0xFF00FF00.toInt(),
                0xFF7F0102.toInt(),
                0xFF000000.toInt(),
                0xFFABCDEF.toInt(),
            )
        val bitmap = Bitmap.createBitmap(colors, 3, 2, Bitmap.Config.ARGB_8888)
        assertSame(Picture.ofArgb(colors, 3, 2), bitmap.toPicture())
        assertSame(Picture.ofArgb(colors, 3, 2, 6), bitmap.toPicture(6))
        val small = bitmap.copy(Bitmap.Config.RGB_565, false).toPicture()
        assertEquals(listOf(3, 2), listOf(small.width, small.height))
    }

    @Test
    fun `transparency of a bitmap lies on white`() {
        val bitmap = Bitmap.createBitmap(1, 1, Bitmap.Config.ARGB_8888)
        assertSame(Picture.ofArgb(intArrayOf(Color.WHITE), 1, 1), bitmap.toPicture())
        Canvas(bitmap).drawColor(0x80FF0000.toInt())
        assertSame(Picture.ofArgb(intArrayOf(0xFFFF7F7F.toInt()), 1, 1), bitmap.toPicture())
        val straight = Bitmap.createBitmap(1, 1, Bitmap.Config.ARGB_8888).also { it.isPremultiplied = false }
        straight.setPixel(0, 0, 0x80FF0000.toInt())
        assertSame(Picture.ofArgb(intArrayOf(0x80FF0000.toInt()), 1, 1), straight.toPicture())
    }

    @Test
    fun `the color space of a bitmap converts nothing`() {
        val wide = Bitmap.createBitmap(1, 1, Bitmap.Config.ARGB_8888, true, ColorSpace.get(ColorSpace.Named.DISPLAY_P3))
        wide.copyPixelsFromBuffer(java.nio.ByteBuffer.wrap(byteArrayOf(10, 120, 10, -1)))
        assertSame(Picture.ofArgb(intArrayOf(0xFF0A780A.toInt()), 1, 1), wide.toPicture())
    }

    private fun assertSame(
        wanted: Picture,
        own: Picture,
    ) {
        val plain = ImageProcessing(8, "letterbox", "triangle", null)
        assertContentEquals(plain.pixels(wanted), plain.pixels(own))
    }
}
