package edgevl.picture

import java.nio.ByteBuffer
import kotlin.math.roundToInt

/** A plane of a camera frame: [rowStride] bytes from row to row, [pixelStride] from sample to sample. */
class YuvPlane(
    val buffer: ByteBuffer,
    val rowStride: Int,
    val pixelStride: Int,
)

/**
 * How a camera codes color. Cameras of Android deliver [BT601_FULL] unless their stream says otherwise
 * (`Image.getDataSpace`); video is often [BT709_LIMITED].
 */
enum class YuvColors(
    red: Double,
    blue: Double,
    limited: Boolean,
) {
    BT601_FULL(0.299, 0.114, false),
    BT601_LIMITED(0.299, 0.114, true),
    BT709_FULL(0.2126, 0.0722, false),
    BT709_LIMITED(0.2126, 0.0722, true),
    ;

    // Integers of 16 bits behind the point, so that every device computes the same.
    internal val black = if (limited) 16 else 0
    internal val luma = fixed(if (limited) 255.0 / 219 else 1.0)
    private val chroma = if (limited) 255.0 / 224 else 1.0
    internal val redOfV = fixed(2 * (1 - red) * chroma)
    internal val blueOfU = fixed(2 * (1 - blue) * chroma)
    internal val greenOfU = fixed(2 * blue * (1 - blue) / (1 - red - blue) * chroma)
    internal val greenOfV = fixed(2 * red * (1 - red) / (1 - red - blue) * chroma)

    private fun fixed(value: Double) = (value * (1 shl POINT)).roundToInt()

    internal companion object {
        const val POINT = 16
    }
}

/**
 * A camera frame in YUV_420_888: a chroma sample belongs to a block of 2 x 2 pixels, and is used for all four as it is.
 *
 * [turn] is by how many degrees clockwise the frame must be turned to be upright (0, 90, 180, 270): CameraX's
 * `imageInfo.rotationDegrees`.
 */
class YuvFrame(
    val width: Int,
    val height: Int,
    val y: YuvPlane,
    val u: YuvPlane,
    val v: YuvPlane,
    val colors: YuvColors = YuvColors.BT601_FULL,
    val turn: Int = 0,
)

private val ORIENTATION_OF_TURN = mapOf(0 to 1, 90 to 6, 180 to 3, 270 to 8)

/** Return the upright picture of a camera frame. The planes are only read, and may be given back afterwards. */
fun YuvFrame.toPicture(): Picture {
    checkSize(width, height)
    val orientation = requireNotNull(ORIENTATION_OF_TURN[turn]) { "turn is $turn; it must be 0, 90, 180 or 270" }
    val rgb = ByteArray(3 * width * height)
    val lumas = Rows(y, width)
    val us = Rows(u, (width + 1) / 2)
    val vs = Rows(v, (width + 1) / 2)
    for (row in 0 until height) {
        lumas.read(row)
        if (row % 2 == 0) {
            us.read(row / 2)
            vs.read(row / 2)
        }
        convert(rgb, 3 * row * width, lumas, us, vs)
    }
    return Picture.upright(rgb, width, height, orientation)
}

/** One row of a plane at a time: single reads of a direct buffer are slow. The last row may end with its last sample. */
private class Rows(
    private val plane: YuvPlane,
    count: Int,
) {
    private val source = plane.buffer.duplicate()
    private val origin = source.position()
    private val length = (count - 1) * plane.pixelStride + 1
    private val bytes = ByteArray(length)

    fun read(row: Int) {
        source.position(origin + row * plane.rowStride)
        source.get(bytes, 0, length)
    }

    operator fun get(at: Int): Int = bytes[at * plane.pixelStride].toInt() and 255
}

private const val ROUND = 1 shl (YuvColors.POINT - 1)
private const val MIDDLE = 128

private fun YuvFrame.convert(
    rgb: ByteArray,
    start: Int,
    lumas: Rows,
    us: Rows,
    vs: Rows,
) {
    var to = start
    for (x in 0 until width) {
        val luma = (lumas[x] - colors.black) * colors.luma + ROUND
        val blue = us[x / 2] - MIDDLE
        val red = vs[x / 2] - MIDDLE
        rgb[to++] = clipped(luma + red * colors.redOfV)
        rgb[to++] = clipped(luma - blue * colors.greenOfU - red * colors.greenOfV)
        rgb[to++] = clipped(luma + blue * colors.blueOfU)
    }
}

private fun clipped(value: Int): Byte = (value shr YuvColors.POINT).coerceIn(0, 255).toByte()
