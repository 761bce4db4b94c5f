package edgevl.android

import android.graphics.ImageFormat
import android.media.Image
import edgevl.picture.Picture
import edgevl.picture.YuvColors
import edgevl.picture.YuvFrame
import edgevl.picture.YuvPlane
import edgevl.picture.toPicture

/**
 * Return a camera frame in YUV_420_888 as an upright picture. The image may be closed afterwards.
 *
 * [turn]: by how many degrees clockwise it must be turned, 0, 90, 180 or 270 (see [turnOf]).
 */
fun Image.toPicture(
    turn: Int,
    colors: YuvColors = YuvColors.BT601_FULL,
): Picture {
    require(format == ImageFormat.YUV_420_888) { "the frame has the format $format; ask the camera for YUV_420_888" }
    val (y, u, v) = planes.map { YuvPlane(it.buffer, it.rowStride, it.pixelStride) }
    return YuvFrame(width, height, y, u, v, colors, turn).toPicture()
}

/**
 * Return by how many degrees a camera's frames must be turned clockwise.
 *
 * [sensor]: `CameraCharacteristics.SENSOR_ORIENTATION`. [display]: the display's rotation in degrees, 0 in portrait on
 * most phones. [isFront]: the camera looks at the user.
 */
fun turnOf(
    sensor: Int,
    display: Int,
    isFront: Boolean,
): Int = if (isFront) (sensor + display) % 360 else (sensor - display + 360) % 360
