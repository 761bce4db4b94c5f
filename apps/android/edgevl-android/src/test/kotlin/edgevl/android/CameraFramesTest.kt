package edgevl.android

import android.graphics.ImageFormat
import android.hardware.HardwareBuffer
import android.media.Image
import edgevl.bundle.ImageProcessing
import edgevl.picture.YuvFrame
import edgevl.picture.YuvPlane
import edgevl.picture.pixels
import edgevl.picture.toPicture
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import java.nio.ByteBuffer
import kotlin.random.Random
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE)
class CameraFramesTest {
    /** NV12 as cameras give it: u and v are views of the same bytes, one byte apart. */
    private val luma = ByteBuffer.wrap(Random(1).nextBytes(16 * 6))
    private val chroma = Random(2).nextBytes(16 * 3)

    private class Plane(
        private val bytes: ByteBuffer,
        private val pixels: Int,
    ) : Image.Plane() {
        override fun getRowStride() = 16

        override fun getPixelStride() = pixels

        override fun getBuffer(): ByteBuffer = bytes
    }

    private inner class Frame(
        private val kind: Int = ImageFormat.YUV_420_888,
    ) : Image() {
        override fun getFormat() = kind

        override fun getWidth() = 10

        override fun getHeight() = 6

        override fun getTimestamp() = 0L

        override fun getTransform() = 0

        override fun getScalingMode() = 0

        override fun getPlaneCount() = 3

        override fun getHardwareBuffer(): HardwareBuffer? = null

        override fun getPlanes(): Array<Image.Plane> {
            val u = ByteBuffer.wrap(chroma).slice()
            val v = ByteBuffer.wrap(chroma, 1, chroma.size - 1).slice()
            return arrayOf(Plane(luma, 1), Plane(u, 2), Plane(v, 2))
        }

        override fun close() {}
    }

    @Test
    fun `planes of a camera are the frame of the core`() {
        val square = ImageProcessing(10, "letterbox", "triangle", null)
        val v = ByteBuffer.wrap(chroma, 1, chroma.size - 1)
        val wanted = YuvFrame(10, 6, YuvPlane(luma, 16, 1), YuvPlane(ByteBuffer.wrap(chroma), 16, 2), YuvPlane(v, 16, 2), turn = 90)
        assertContentEquals(square.pixels(wanted.toPicture()), square.pixels(Frame().toPicture(90)))
        assertFailsWith<IllegalArgumentException> { Frame(ImageFormat.JPEG).toPicture(0) }
    }

    @Test
    fun `how frames are turned`() {
        assertEquals(listOf(90, 0, 270), listOf(0, 90, 180).map { turnOf(90, it, isFront = false) })
        assertEquals(listOf(270, 0, 90), listOf(0, 90, 180).map { turnOf(270, it, isFront = true) })
    }
}
