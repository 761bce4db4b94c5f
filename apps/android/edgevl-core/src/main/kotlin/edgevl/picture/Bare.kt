package edgevl.picture

import edgevl.BadInput
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder

private const val APP0 = 0xE0
private const val APP14 = 0xEE
private const val COMMENT = 0xFE
private const val ALPHA = 0x10
private const val ANIMATION = 0x02
private val FRAMES = (0xC0..0xCF) - setOf(0xC4, 0xC8, 0xCC)
private val NO_PICTURE = setOf("ICCP", "EXIF", "XMP ")

/**
 * An encoded picture without whatever is no part of it, for a decoder of the platform: there is no profile left to
 * convert colors by, and no EXIF to turn by.
 *
 * [orientation]: of EXIF, still to be applied. [hasAlpha]: false where alpha that the decoder gives does not count.
 */
class BarePicture internal constructor(
    val file: ByteArray,
    val orientation: Int,
    val hasAlpha: Boolean,
) {
    companion object {
        /** Throws [BadInput] for a file that is damaged, too large, or of a format that this library does not read. */
        fun of(file: ByteArray): BarePicture =
            try {
                when {
                    isJpeg(file) -> BarePicture(bareJpeg(file), orientationOf(file), false)
                    isWebp(file) -> bareWebp(file)
                    else -> throw BadInput("the picture is of a format that is not read here: give a JPEG, PNG or WebP")
                }
            } catch (_: IndexOutOfBoundsException) {
                throw BadInput("the picture is truncated: save it again")
            }
    }
}

internal fun isJpeg(file: ByteArray): Boolean = file.size > 2 && file[0] == 0xFF.toByte() && file[1] == 0xD8.toByte()

/** A segment of a JPEG before its first scan: [start], of its content, until [end]. */
internal class JpegSegment(
    val marker: Int,
    val start: Int,
    val end: Int,
)

/** The segments until the first scan, which is the last of them, without an end. */
internal fun jpegSegments(file: ByteArray): Sequence<JpegSegment> =
    sequence {
        var at = 2
        while (true) {
            while (file[at] != 0xFF.toByte() || file[at + 1] == 0.toByte() || file[at + 1] == 0xFF.toByte()) at++
            val marker = file[at + 1].toInt() and 255
            at += 2
            if (marker == 0x01 || marker in 0xD0..0xD9) continue
            val length = (file[at].toInt() and 255 shl 8) or (file[at + 1].toInt() and 255)
            val end = at + maxOf(length, 2)
            yield(JpegSegment(marker, at + 2, end))
            if (marker == START_OF_SCAN) return@sequence
            at = end
        }
    }

/** Of the segments for applications those of JFIF and Adobe say how colors are stored. */
private fun bareJpeg(file: ByteArray): ByteArray {
    val bare = ByteArrayOutputStream(file.size)
    bare.write(file, 0, 2)
    for (segment in jpegSegments(file)) {
        if (segment.marker in FRAMES) checkFrame(file, segment)
        if (segment.marker == START_OF_SCAN) {
            bare.write(file, segment.start - 4, file.size - segment.start + 4)
        } else if (segment.marker == APP0 || segment.marker == APP14 || (segment.marker !in APP0..0xEF && segment.marker != COMMENT)) {
            bare.write(file, segment.start - 4, segment.end - segment.start + 4)
        }
    }
    return bare.toByteArray()
}

private fun checkFrame(
    file: ByteArray,
    segment: JpegSegment,
) {
    val content = ByteBuffer.wrap(file, segment.start, segment.end - segment.start).slice()
    val components = content.get(5).toInt()
    if (content.get(0).toInt() != 8 ||
        components !in setOf(1, 3, 4)
    ) {
        throw BadInput("the picture is a JPEG of a kind that is not read: save it with 8 bits")
    }
    checkSize(
        content.getShort(3).toInt() and 0xFFFF,
        content.getShort(1).toInt() and 0xFFFF,
        if (components ==
            4
        ) {
            MAX_PIXELS_OF_LARGE
        } else {
            MAX_PIXELS
        },
    )
}

private fun bareWebp(file: ByteArray): BarePicture {
    val bare = ByteArrayOutputStream(file.size)
    bare.write(file, 0, 12)
    var flags = ALPHA
    for (chunk in webpChunks(file)) {
        if (chunk.kind in NO_PICTURE) continue
        val content = file.copyOfRange(chunk.start - 8, minOf(chunk.end + chunk.end % 2, file.size))
        if (chunk.kind == "VP8X") {
            flags = content[8].toInt()
            content[8] = (flags and (ALPHA or ANIMATION)).toByte()
            checkSize(number(content, 12) + 1, number(content, 15) + 1, MAX_PIXELS_OF_LARGE)
        }
        bare.write(content)
    }
    val bytes = bare.toByteArray()
    ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putInt(4, bytes.size - 8)
    return BarePicture(bytes, orientationOf(file), flags and ALPHA != 0)
}

private fun number(
    bytes: ByteArray,
    at: Int,
): Int = (bytes[at].toInt() and 255) or (bytes[at + 1].toInt() and 255 shl 8) or (bytes[at + 2].toInt() and 255 shl 16)

/** A chunk of a PNG or a WebP, whose content is [start] until [end] in the file. */
internal class Chunk(
    val kind: String,
    val start: Int,
    val end: Int,
) {
    fun content(file: ByteArray): ByteArray = file.copyOfRange(start, minOf(end, file.size))
}

internal fun webpChunks(file: ByteArray): Sequence<Chunk> =
    sequence {
        val bytes = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN)
        var at = 12
        while (at + 8 <= file.size) {
            val length = bytes.getInt(at + 4)
            if (length < 0 || length > file.size - at - 8) throw IndexOutOfBoundsException()
            yield(Chunk(ascii(file, at, 4), at + 8, at + 8 + length))
            at += 8 + length + length % 2
        }
    }
