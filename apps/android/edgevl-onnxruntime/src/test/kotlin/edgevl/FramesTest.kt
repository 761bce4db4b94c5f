package edgevl

import edgevl.json.strictJson
import edgevl.picture.YuvColors
import edgevl.picture.YuvFrame
import edgevl.picture.YuvPlane
import edgevl.picture.toPicture
import org.junit.Test
import java.io.File
import java.nio.ByteBuffer
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** docs/conformance.md, "Camera frames". */
class FramesTest {
    private val folder = File(Fixtures.folder, "conformance")
    private val frames = (strictJson(File(folder, "frames.json").readBytes()) as Map<*, *>)["frames"] as List<*>

    @Test
    fun `frames become the same pixels`() {
        assertTrue(frames.size >= 30)
        val failed = frames.map { it as Map<*, *> }.filter { rgb(it) != File(folder, it["rgb"] as String).readBytes().toList() }
        assertEquals(emptyList(), failed.map { it["id"] })
    }

    private fun rgb(case: Map<*, *>): List<Byte> {
        val bytes = File(folder, case["file"] as String).readBytes()
        val colors = YuvColors.valueOf((case["colors"] as String).uppercase().replace('-', '_'))
        val planes = case["planes"] as Map<*, *>
        val (y, u, v) = listOf("y", "u", "v").map { plane(bytes, planes[it] as Map<*, *>) }
        val picture = YuvFrame(number(case, "width"), number(case, "height"), y, u, v, colors, number(case, "turn")).toPicture()
        assertEquals(listOf(number(case, "rgb_width"), number(case, "rgb_height")), listOf(picture.width, picture.height))
        return (0 until picture.height).flatMap { row ->
            (0 until picture.width).flatMap { x -> listOf(16, 8, 0).map { (picture.argbAt(x, row) shr it).toByte() } }
        }
    }

    private fun plane(
        bytes: ByteArray,
        place: Map<*, *>,
    ): YuvPlane {
        val offset = number(place, "offset")
        return YuvPlane(ByteBuffer.wrap(bytes, offset, bytes.size - offset), number(place, "row_stride"), number(place, "pixel_stride"))
    }

    private fun number(
        values: Map<*, *>,
        name: String,
    ) = (values[name] as Long).toInt()
}
