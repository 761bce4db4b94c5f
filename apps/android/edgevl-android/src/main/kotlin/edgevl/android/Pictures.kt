package edgevl.android

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.net.Uri
import edgevl.BadInput
import edgevl.picture.BarePicture
import edgevl.picture.Picture
import edgevl.picture.isPng
import edgevl.picture.readPng
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder

private const val MAX_FILE_BYTES = 256 shl 20
private const val BLOCK = 1 shl 16
private const val OPAQUE = 0xFF shl 24

/** Encoded pictures, JPEG, PNG and WebP, as docs/bundle.md says: turned by EXIF, on white, profiles ignored. */
object Pictures {
    /** Read what the photo picker or the camera gave. Throws [BadInput]. */
    fun read(
        resolver: ContentResolver,
        uri: Uri,
    ): Picture =
        try {
            val stream = resolver.openInputStream(uri) ?: throw BadInput("the picture cannot be opened: choose it again")
            stream.use(::read)
        } catch (error: IOException) {
            throw BadInput("the picture cannot be read: ${error.message}")
        } catch (_: SecurityException) {
            throw BadInput("the app may no longer read this picture: choose it again")
        }

    fun read(stream: InputStream): Picture {
        val bytes = ByteArrayOutputStream()
        val block = ByteArray(BLOCK)
        while (true) {
            val count = stream.read(block)
            if (count < 0) return read(bytes.toByteArray())
            if (bytes.size() + count > MAX_FILE_BYTES) throw BadInput("the picture has more than 256 MiB: save it smaller")
            bytes.write(block, 0, count)
        }
    }

    fun read(file: ByteArray): Picture {
        if (isPng(file)) return readPng(file)
        val bare = BarePicture.of(file)
        val bitmap = decoded(bare.file)
        val argb = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        if (!bare.hasAlpha) for (at in argb.indices) argb[at] = argb[at] or OPAQUE
        return Picture.ofArgb(argb, bitmap.width, bitmap.height, bare.orientation).also { bitmap.recycle() }
    }

    /** Decode with the platform. Unlike `BitmapFactory` this class refuses a file that is truncated. */
    private fun decoded(file: ByteArray): Bitmap =
        try {
            ImageDecoder.decodeBitmap(ImageDecoder.createSource(ByteBuffer.wrap(file))) { decoder, _, _ ->
                decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
                decoder.isUnpremultipliedRequired = true
            }
        } catch (error: IOException) {
            throw BadInput("the picture is damaged (${error.message}): save it again")
        }
}

/**
 * Return a bitmap as a picture, with the numbers that it holds: nothing is converted by its color space.
 *
 * A photo goes through [Pictures] instead: `BitmapFactory` and `ImageDecoder` have multiplied colors by alpha and may have
 * converted them. [orientation] is that of EXIF where nobody has turned the bitmap yet.
 */
fun Bitmap.toPicture(orientation: Int = 1): Picture {
    val plain = if (config == Bitmap.Config.ARGB_8888) this else copy(Bitmap.Config.ARGB_8888, false)
    val bytes = ByteBuffer.allocateDirect(plain.byteCount)
    plain.copyPixelsToBuffer(bytes)
    bytes.rewind()
    val stored = bytes.order(ByteOrder.LITTLE_ENDIAN).asIntBuffer()
    val argb = IntArray(width * height)
    for (row in 0 until height) {
        stored.position(row * (plain.rowBytes / Int.SIZE_BYTES))
        stored.get(argb, row * width, width)
    }
    for (at in argb.indices) argb[at] = opaque(argb[at], plain)
    return Picture.ofArgb(argb, width, height, orientation)
}

/** Return a stored pixel as 0xAARRGGBB; one that was multiplied by its alpha already on white. */
private fun opaque(
    stored: Int,
    bitmap: Bitmap,
): Int {
    val pixel = if (redIsFirst) stored and 0xFF00FF00.toInt() or (stored and 255 shl 16) or (stored shr 16 and 255) else stored
    if (!bitmap.hasAlpha()) return pixel or OPAQUE
    if (!bitmap.isPremultiplied) return pixel
    val white = 255 - (pixel ushr 24)
    val red = minOf((pixel shr 16 and 255) + white, 255)
    val green = minOf((pixel shr 8 and 255) + white, 255)
    return OPAQUE or (red shl 16) or (green shl 8) or minOf((pixel and 255) + white, 255)
}

/** Phones store red first; the graphics of Robolectric blue. */
private val redIsFirst: Boolean by lazy {
    val probe = Bitmap.createBitmap(intArrayOf(0xFFFF0000.toInt()), 1, 1, Bitmap.Config.ARGB_8888)
    val bytes = ByteBuffer.allocate(Int.SIZE_BYTES)
    probe.copyPixelsToBuffer(bytes)
    bytes.get(0) == 255.toByte()
}
