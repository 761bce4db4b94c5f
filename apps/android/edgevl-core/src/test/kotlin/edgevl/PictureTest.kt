package edgevl

import edgevl.bundle.ImageProcessing
import edgevl.picture.Picture
import edgevl.picture.boxOnPicture
import edgevl.picture.pixels
import edgevl.picture.readPng
import org.junit.Test
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.util.zip.CRC32
import java.util.zip.Deflater
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

/** The conformance suite holds every pixel; here is what must hold by itself. */
class PictureTest {
    private val squash = ImageProcessing(4, "squash", "triangle", null)
    private val argb = IntArray(6) { 0xFF000000.toInt() or (it + 1) }

    private fun blues(picture: Picture) = picture.pixelsOfItsOwnSize().filterIndexed { at, _ -> at % 3 == 2 }.map { it.toInt() }

    private fun Picture.pixelsOfItsOwnSize() = edgevl.picture.resize(this, width, height, edgevl.picture.Kernel.TRIANGLE)

    @Test
    fun `orientations of EXIF`() {
        // 1 2 3
        // 4 5 6
        val wanted =
            mapOf(
                1 to listOf(1, 2, 3, 4, 5, 6),
                2 to listOf(3, 2, 1, 6, 5, 4),
                3 to listOf(6, 5, 4, 3, 2, 1),
                4 to listOf(4, 5, 6, 1, 2, 3),
                5 to listOf(1, 4, 2, 5, 3, 6),
                6 to listOf(4, 1, 5, 2, 6, 3),
                7 to listOf(6, 3, 5, 2, 4, 1),
                8 to listOf(3, 6, 2, 5, 1, 4),
            )
        for ((orientation, order) in wanted) {
            val picture = Picture.ofArgb(argb, 3, 2, orientation)
            assertEquals(order, blues(picture), "orientation $orientation")
            assertEquals(if (orientation < 5) 3 else 2, picture.width)
        }
    }

    @Test
    fun `alpha lies on white`() {
        val picture = Picture.ofArgb(intArrayOf(0x00123456, 0x80FF0000.toInt()), 2, 1)
        assertContentEquals(byteArrayOf(-1, -1, -1, -1, 127, 127), picture.pixelsOfItsOwnSize())
    }

    @Test
    fun `pictures that would take too much memory are refused`() {
        assertFailsWith<BadInput> { Picture.ofArgb(IntArray(1), 20_000, 20_000) }
        assertFailsWith<BadInput> { Picture.ofArgb(IntArray(0), 0, 3) }
        val tall = Picture.ofArgb(IntArray(900_000), 1, 900_000)
        assertFailsWith<BadInput> { squash.copy(size = 128).pixels(tall) }
        assertFailsWith<BadInput> { squash.copy(geometry = "shortest-edge").pixels(Picture.ofArgb(IntArray(201), 1, 201)) }
    }

    @Test
    fun `a box of the square lies on the picture`() {
        val picture = Picture.ofArgb(IntArray(200), 20, 10)
        val half = listOf(0.25, 0.25, 0.75, 0.75)
        assertEquals(half, squash.boxOnPicture(half, picture))
        assertEquals(listOf(0.375, 0.25, 0.625, 0.75), squash.copy(geometry = "shortest-edge").boxOnPicture(half, picture))
        assertEquals(listOf(0.25, 0.0, 0.75, 1.0), squash.copy(geometry = "letterbox").boxOnPicture(half, picture))
    }

    @Test
    fun `a PNG that is damaged is refused`() {
        val good = png(2, 1, byteArrayOf(0, 1, 2, 3, 4, 5, 6))
        assertEquals(listOf(3, 6), blues(readPng(good)))
        assertFailsWith<BadInput> { readPng(good.copyOf(good.size - 30)) }
        assertFailsWith<BadInput> { readPng(png(2, 1, byteArrayOf(9, 1, 2, 3, 4, 5, 6))) }
        assertFailsWith<BadInput> { readPng(png(2, 2, byteArrayOf(0, 1, 2, 3, 4, 5, 6))) }
        assertFailsWith<BadInput> { readPng(png(100_000, 100_000, ByteArray(1))) }
        assertFailsWith<BadInput> { readPng(good.also { it[20] = (it[20] + 1).toByte() }) }
    }

    private fun png(
        width: Int,
        height: Int,
        lines: ByteArray,
    ): ByteArray {
        val header =
            ByteBuffer
                .allocate(13)
                .putInt(width)
                .putInt(height)
                .put(byteArrayOf(8, 2, 0, 0, 0))
                .array()
        val packed = ByteArray(100)
        val count =
            Deflater().run {
                setInput(lines)
                finish()
                deflate(packed)
            }
        val file = ByteArrayOutputStream()
        file.write("\u0089PNG\r\n\u001a\n".toByteArray(Charsets.ISO_8859_1))
        for ((kind, content) in listOf("IHDR" to header, "IDAT" to packed.copyOf(count), "IEND" to ByteArray(0))) {
            val named = kind.toByteArray() + content
            val checksum = CRC32().also { it.update(named) }.value.toInt()
            file.write(ByteBuffer.allocate(4).putInt(content.size).array() + named + ByteBuffer.allocate(4).putInt(checksum).array())
        }
        return file.toByteArray()
    }
}
