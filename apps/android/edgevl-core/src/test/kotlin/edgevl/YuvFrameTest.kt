package edgevl

import edgevl.picture.Kernel
import edgevl.picture.Picture
import edgevl.picture.YuvColors
import edgevl.picture.YuvFrame
import edgevl.picture.YuvPlane
import edgevl.picture.resize
import edgevl.picture.toPicture
import org.junit.Test
import java.nio.ByteBuffer
import java.security.MessageDigest
import kotlin.math.abs
import kotlin.random.Random
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertTrue

class YuvFrameTest {
    private val width = 7
    private val height = 5
    private val random = Random(0)
    private val luma = ByteArray(width * height) { random.nextInt(256).toByte() }
    private val u = ByteArray(4 * 3) { random.nextInt(256).toByte() }
    private val v = ByteArray(4 * 3) { random.nextInt(256).toByte() }

    /** A plane with strides, whose last row ends with its last sample, as those of cameras do. */
    private fun plane(
        samples: ByteArray,
        columns: Int,
        pixelStride: Int,
        padding: Int,
        offset: Int = 0,
    ): YuvPlane {
        val rowStride = columns * pixelStride + padding
        val rows = samples.size / columns
        val buffer = ByteBuffer.allocateDirect(offset + (rows - 1) * rowStride + (columns - 1) * pixelStride + 1)
        for (row in 0 until rows) {
            for (x in 0 until columns) {
                buffer.put(
                    offset + row * rowStride + x * pixelStride,
                    samples[
                        row * columns +
                            x,
                    ],
                )
            }
        }
        buffer.position(offset)
        return YuvPlane(buffer, rowStride, pixelStride)
    }

    private fun frame(
        pixelStride: Int = 1,
        padding: Int = 0,
        colors: YuvColors = YuvColors.BT601_FULL,
        turn: Int = 0,
    ) = YuvFrame(
        width,
        height,
        plane(luma, width, 1, padding),
        plane(u, 4, pixelStride, padding),
        plane(v, 4, pixelStride, padding, offset = pixelStride - 1),
        colors,
        turn,
    )

    private fun rgb(picture: Picture) = resize(picture, picture.width, picture.height, Kernel.TRIANGLE)

    @Test
    fun `strides do not matter`() {
        val packed = rgb(frame().toPicture())
        for (stride in 1..3) for (padding in listOf(0, 1, 57)) assertContentEquals(packed, rgb(frame(stride, padding).toPicture()))
    }

    /** Kr, Kb, and whether luma is 16 to 235. */
    private val standards =
        mapOf(
            YuvColors.BT601_FULL to Triple(0.299, 0.114, false),
            YuvColors.BT601_LIMITED to Triple(0.299, 0.114, true),
            YuvColors.BT709_FULL to Triple(0.2126, 0.0722, false),
            YuvColors.BT709_LIMITED to Triple(0.2126, 0.0722, true),
        )

    @Test
    fun `colors are those of the standards`() {
        for ((colors, standard) in standards) {
            val own = rgb(frame(colors = colors).toPicture())
            for (y in 0 until height) for (x in 0 until width) assertPixel(own, x, y, standard, colors.name)
        }
    }

    private fun assertPixel(
        own: ByteArray,
        x: Int,
        y: Int,
        standard: Triple<Double, Double, Boolean>,
        name: String,
    ) {
        val (red, blue, limited) = standard
        val bright = (luma[y * width + x].toInt() and 255).let { if (limited) (it - 16) * 255.0 / 219 else it.toDouble() }
        val chroma = listOf(u, v).map { ((it[y / 2 * 4 + x / 2].toInt() and 255) - 128) * if (limited) 255.0 / 224 else 1.0 }
        val r = bright + 2 * (1 - red) * chroma[1]
        val b = bright + 2 * (1 - blue) * chroma[0]
        val g = (bright - red * r - blue * b) / (1 - red - blue)
        listOf(r, g, b).forEachIndexed { channel, wanted ->
            val found = own[3 * (y * width + x) + channel].toInt() and 255
            assertTrue(abs(found - wanted.coerceIn(0.0, 255.0)) < 0.51, "$name at $x, $y: $found, $wanted")
        }
    }

    /** The first digits of the sha256 of one frame's pixels, which tests/test_frames.py holds Python's to. */
    private val digests =
        mapOf(
            YuvColors.BT601_FULL to "a4db72651c5470d7",
            YuvColors.BT601_LIMITED to "dffd9e2235995812",
            YuvColors.BT709_FULL to "b6f71b8f9ef99126",
            YuvColors.BT709_LIMITED to "e4db4a5c942b1d53",
        )

    @Test
    fun `pixels are those of Python to the last bit`() {
        val (columns, rows) = 101 to 77
        val luma = ByteArray(columns * rows) { (37 * (it % columns) + 101 * (it / columns)).toByte() }
        val u = ByteArray(51 * 39) { (53 * (it % 51) + 29 * (it / 51)).toByte() }
        val v = ByteArray(51 * 39) { (17 * (it % 51) + 71 * (it / 51) + 5).toByte() }
        for ((colors, digest) in digests) {
            val planes = listOf(plane(luma, columns, 1, 0), plane(u, 51, 1, 0), plane(v, 51, 1, 0))
            val pixels = rgb(YuvFrame(columns, rows, planes[0], planes[1], planes[2], colors).toPicture())
            val found = MessageDigest.getInstance("SHA-256").digest(pixels).joinToString("") { "%02x".format(it) }
            assertEquals(digest, found.take(digest.length), colors.name)
        }
    }

    @Test
    fun `a frame is turned upright and its planes may be read again`() {
        val upright = frame().toPicture()
        val turned = frame(turn = 90).toPicture()
        assertEquals(listOf(height, width), listOf(turned.width, turned.height))
        val first = rgb(turned).copyOfRange(3 * (height - 1), 3 * height)
        assertContentEquals(rgb(upright).copyOf(3), first, "the first pixel lies at the upper right")
        val kept = frame(2, 3)
        assertContentEquals(rgb(kept.toPicture()), rgb(kept.toPicture()))
    }
}
