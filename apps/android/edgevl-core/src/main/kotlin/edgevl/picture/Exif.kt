package edgevl.picture

import java.nio.BufferUnderflowException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.DataFormatException
import java.util.zip.Inflater

private const val ORIENTATION = 0x0112
private const val MAX_TEXT = 1 shl 20
private const val APP1 = 0xE1
internal const val START_OF_SCAN = 0xDA
private val EXIF = "Exif\u0000\u0000".toByteArray(Charsets.ISO_8859_1)
internal val PNG_SIGNATURE = "\u0089PNG\r\n\u001a\n".toByteArray(Charsets.ISO_8859_1)
private val RAW_PROFILE = "Raw profile type exif\u0000".toByteArray(Charsets.ISO_8859_1)

/**
 * Return the EXIF orientation of an encoded picture (JPEG, PNG, WebP), 1 to 8; 1 where there is none that can be read.
 *
 * Nothing else turns a picture: XMP, which some libraries read, does not (docs/bundle.md, "Orientation").
 */
fun orientationOf(file: ByteArray): Int =
    try {
        val block =
            when {
                isJpeg(file) -> exifOfJpeg(file)
                startsWith(file, 0, PNG_SIGNATURE) -> exifOfPng(file)
                isWebp(file) -> exifOfWebp(file)
                else -> null
            }
        block?.let(::orientationOfBlock) ?: 1
    } catch (_: IndexOutOfBoundsException) {
        1
    } catch (_: BufferUnderflowException) {
        1
    } catch (_: IllegalArgumentException) {
        1
    }

internal fun isWebp(file: ByteArray): Boolean = file.size > 16 && ascii(file, 0, 4) == "RIFF" && ascii(file, 8, 4) == "WEBP"

/** Only the first directory counts: the second describes the thumbnail. */
internal fun orientationOfBlock(block: ByteArray): Int {
    val start = if (startsWith(block, 0, EXIF)) EXIF.size else 0
    val tiff = ByteBuffer.wrap(block, start, block.size - start).slice()
    tiff.order(
        when (if (block.size - start < 4) "" else ascii(block, start, 4)) {
            "II*\u0000" -> ByteOrder.LITTLE_ENDIAN
            "MM\u0000*" -> ByteOrder.BIG_ENDIAN
            else -> return 1
        },
    )
    val directory = unsigned(tiff.getInt(4))
    val count = tiff.getShort(directory).toInt() and 0xFFFF
    for (number in 0 until count) {
        val entry = directory + 2 + 12 * number
        if (tiff.getShort(entry).toInt() and 0xFFFF != ORIENTATION) continue
        val value =
            when (tiff.getShort(entry + 2).toInt()) {
                1 -> tiff.get(entry + 8).toInt() and 255
                3 -> tiff.getShort(entry + 8).toInt() and 0xFFFF
                4 -> tiff.getInt(entry + 8)
                else -> 1
            }
        return if (value in 1..8) value else 1
    }
    return 1
}

/** The first segment APP1 that begins with Exif and two zero bytes, before the first scan. */
private fun exifOfJpeg(file: ByteArray): ByteArray? {
    val segment = jpegSegments(file).firstOrNull { it.marker == APP1 && startsWith(file, it.start, EXIF) } ?: return null
    return file.copyOfRange(segment.start, minOf(segment.end, file.size))
}

private fun exifOfPng(file: ByteArray): ByteArray? {
    var text: ByteArray? = null
    for (chunk in pngChunks(file)) {
        when (chunk.kind) {
            "eXIf" -> return chunk.content(file)
            "tEXt", "zTXt" -> text = text ?: profileOf(chunk, file)
            "IEND" -> break
        }
    }
    return text
}

/** The chunks of a PNG in order; the last may reach beyond the file. */
internal fun pngChunks(file: ByteArray): Sequence<Chunk> =
    sequence {
        val bytes = ByteBuffer.wrap(file)
        var at = PNG_SIGNATURE.size.toLong()
        while (at + 8 <= file.size) {
            val count = bytes.getInt(at.toInt()).toLong() and 0xFFFFFFFFL
            val start = at.toInt() + 8
            val end = minOf(start + count, Int.MAX_VALUE.toLong()).toInt()
            yield(Chunk(ascii(file, start - 4, 4), start, end))
            at += count + 12
        }
    }

/** EXIF that ImageMagick wrote as text: lines with a name, a length, and hexadecimal digits. */
private fun profileOf(
    chunk: Chunk,
    file: ByteArray,
): ByteArray? {
    if (!startsWith(file, chunk.start, RAW_PROFILE)) return null
    val content = file.copyOfRange(chunk.start + RAW_PROFILE.size, minOf(chunk.end, file.size))
    val text =
        (if (chunk.kind == "zTXt") inflated(content.copyOfRange(1, content.size)) else content.take(MAX_TEXT).toByteArray()) ?: return null
    val digits =
        String(text, Charsets.ISO_8859_1)
            .split('\n')
            .drop(3)
            .joinToString("")
            .filterNot(Char::isWhitespace)
    val valid = digits.length % 2 == 0 && digits.all { it in "0123456789abcdefABCDEF" }
    return if (valid) digits.chunked(2).map { it.toInt(16).toByte() }.toByteArray() else ByteArray(0)
}

private fun inflated(data: ByteArray): ByteArray? {
    val inflater = Inflater()
    inflater.setInput(data)
    val result = ByteArray(MAX_TEXT)
    return try {
        result.copyOf(inflater.inflate(result))
    } catch (_: DataFormatException) {
        null
    } finally {
        inflater.end()
    }
}

private fun exifOfWebp(file: ByteArray): ByteArray? = webpChunks(file).firstOrNull { it.kind == "EXIF" }?.content(file)

private fun unsigned(value: Int): Int = if (value < 0) throw IndexOutOfBoundsException() else value

private fun startsWith(
    bytes: ByteArray,
    at: Int,
    wanted: ByteArray,
): Boolean = bytes.size - at >= wanted.size && wanted.indices.all { bytes[at + it] == wanted[it] }

internal fun ascii(
    bytes: ByteArray,
    at: Int,
    count: Int,
): String = String(bytes, at, count, Charsets.ISO_8859_1)
