package edgevl.picture

import edgevl.BadInput
import java.io.ByteArrayInputStream
import java.io.EOFException
import java.io.IOException
import java.io.InputStream
import java.io.SequenceInputStream
import java.nio.ByteBuffer
import java.util.Collections
import java.util.zip.CRC32
import java.util.zip.InflaterInputStream
import kotlin.math.abs

private const val GRAY = 0
private const val RGB = 2
private const val PALETTE = 3
private const val GRAY_ALPHA = 4
private val CHANNELS = mapOf(GRAY to 1, RGB to 3, PALETTE to 1, GRAY_ALPHA to 2, 6 to 4)
private val DEPTHS =
    mapOf(
        GRAY to listOf(1, 2, 4, 8, 16),
        RGB to listOf(8, 16),
        PALETTE to listOf(1, 2, 4, 8),
        GRAY_ALPHA to listOf(8, 16),
        6 to listOf(8, 16),
    )

/** First column, first row, and steps of the passes of Adam7. */
private val ADAM7 =
    listOf(
        intArrayOf(0, 0, 8, 8),
        intArrayOf(4, 0, 8, 8),
        intArrayOf(0, 4, 4, 8),
        intArrayOf(2, 0, 4, 4),
        intArrayOf(0, 2, 2, 4),
        intArrayOf(1, 0, 2, 2),
        intArrayOf(0, 1, 1, 2),
    )

fun isPng(file: ByteArray): Boolean = file.size >= PNG_SIGNATURE.size && PNG_SIGNATURE.indices.all { file[it] == PNG_SIGNATURE[it] }

/**
 * Read a PNG of any color type and depth as docs/bundle.md says, upright on white.
 *
 * Platforms convert colors, gray of 16 bits and transparency each in its own way; this does what the contract says.
 * Throws [BadInput] for a file that is damaged or too large.
 */
fun readPng(file: ByteArray): Picture {
    val png = Png(file)
    try {
        return Picture.upright(png.rgb(), png.width, png.height, orientationOf(file))
    } catch (_: EOFException) {
        throw BadInput("the picture is truncated: save it again")
    } catch (error: IOException) {
        damaged(error.message)
    }
}

private fun damaged(what: String?): Nothing = throw BadInput("the picture is damaged ($what): save it again")

private class Png(
    private val file: ByteArray,
) {
    private val chunks = counted()
    private val header = ByteBuffer.wrap(chunks.getValue("IHDR"))
    val width = header.getInt(0)
    val height = header.getInt(4)
    private val depth = header.get(8).toInt()
    private val color = header.get(9).toInt()
    private val channels = CHANNELS[color] ?: damaged("an unknown color type")
    private val top = (1 shl depth) - 1
    private val palette = chunks["PLTE"] ?: ByteArray(0)
    private val transparent = chunks["tRNS"]

    init {
        if (depth !in DEPTHS.getValue(color) || header.getShort(10) != 0.toShort() || header.get(12) !in 0..1) damaged("its header")
        checkSize(width, height)
        if (color == PALETTE && (palette.isEmpty() || palette.size % 3 != 0 || palette.size > 768)) damaged("its palette")
    }

    private val key = if (color == GRAY || color == RGB) keyOf() else null

    fun rgb(): ByteArray {
        val rgb = ByteArray(3 * width * height)
        val stream = InflaterInputStream(pixels())
        val passes = if (header.get(12) == 1.toByte()) ADAM7 else listOf(intArrayOf(0, 0, 1, 1))
        for ((left, above, right, down) in passes) {
            val columns = (width - left + right - 1) / right
            val rows = (height - above + down - 1) / down
            if (columns < 1 || rows < 1) continue
            val lines = Lines(stream, (columns * channels * depth + 7) / 8, maxOf(1, channels * depth / 8))
            for (row in 0 until rows) {
                val line = lines.next()
                for (column in 0 until columns) put(rgb, 3 * ((above + row * down) * width + left + column * right), line, column)
            }
        }
        return rgb
    }

    /** What counts of the file: header, palette and transparency before the first pixels. */
    private fun counted(): Map<String, ByteArray> {
        val found = HashMap<String, ByteArray>()
        for (chunk in pngChunks(file)) {
            if (chunk.kind == "IDAT" || chunk.kind == "IEND") break
            if (chunk.kind in setOf("IHDR", "PLTE", "tRNS")) found[chunk.kind] = checked(chunk)
        }
        if (found["IHDR"]?.size != 13) damaged("it has no header")
        return found
    }

    private fun checked(chunk: Chunk): ByteArray {
        val checksum = CRC32()
        if (chunk.end > file.size - 4) throw BadInput("the picture is truncated: save it again")
        checksum.update(file, chunk.start - 4, chunk.end - chunk.start + 4)
        if (checksum.value.toInt() != ByteBuffer.wrap(file).getInt(chunk.end)) damaged("the checksum of its chunk ${chunk.kind}")
        return chunk.content(file)
    }

    /** The content of the first run of IDAT chunks. */
    private fun pixels(): InputStream {
        val run = pngChunks(file).dropWhile { it.kind != "IDAT" }.takeWhile { it.kind == "IDAT" }.toList()
        if (run.isEmpty()) damaged("it has no pixels")
        return SequenceInputStream(Collections.enumeration(run.map { ByteArrayInputStream(checked(it)) }))
    }

    /** The gray or color that is transparent, in the file's own depth. */
    private fun keyOf(): IntArray? {
        val bytes = transparent ?: return null
        if (bytes.size != 2 * channels) damaged("its transparent color has another length")
        return IntArray(channels) { ByteBuffer.wrap(bytes).getShort(2 * it).toInt() and top }
    }

    private fun sample(
        line: ByteArray,
        number: Int,
    ): Int =
        when (depth) {
            16 -> (line[2 * number].toInt() and 255 shl 8) or (line[2 * number + 1].toInt() and 255)
            8 -> line[number].toInt() and 255
            else -> {
                val bit = number * depth
                line[bit / 8].toInt() shr (8 - depth - bit % 8) and top
            }
        }

    private fun put(
        rgb: ByteArray,
        at: Int,
        line: ByteArray,
        column: Int,
    ) {
        val from = column * channels
        val first = sample(line, from)
        if (color == PALETTE) return putIndex(rgb, at, first)
        val opaque = key == null || key.indices.any { key[it] != sample(line, from + it) }
        val alpha =
            when {
                color >= GRAY_ALPHA -> high(sample(line, from + channels - 1))
                opaque -> 255
                else -> 0
            }
        if (channels < 3) {
            val gray = gray(first)
            putOnWhite(rgb, at, gray, gray, gray, alpha)
        } else {
            putOnWhite(rgb, at, high(first), high(sample(line, from + 1)), high(sample(line, from + 2)), alpha)
        }
    }

    private fun putIndex(
        rgb: ByteArray,
        at: Int,
        index: Int,
    ) {
        val alpha = if (transparent != null && index < transparent.size) transparent[index].toInt() and 255 else 255
        val entry = IntArray(3) { if (3 * index < palette.size) palette[3 * index + it].toInt() and 255 else 0 }
        putOnWhite(rgb, at, entry[0], entry[1], entry[2], alpha)
    }

    private fun high(value: Int) = if (depth == 16) value shr 8 else value

    private fun gray(value: Int) = if (depth == 16) grayOf16Bits(value) else (2 * value * 255 + top) / (2 * top)
}

/** The lines of a pass, with their filters undone. */
private class Lines(
    private val stream: InputStream,
    length: Int,
    private val distance: Int,
) {
    private var line = ByteArray(length)
    private var above = ByteArray(length)

    fun next(): ByteArray {
        val filter = stream.read()
        if (filter < 0) throw EOFException()
        above = line.also { line = above }
        readFully()
        if (filter > 4) throw IOException("an unknown filter")
        if (filter > 0) for (at in line.indices) line[at] = (line[at] + predicted(filter, at)).toByte()
        return line
    }

    private fun readFully() {
        var at = 0
        while (at < line.size) {
            val count = stream.read(line, at, line.size - at)
            if (count < 0) throw EOFException()
            at += count
        }
    }

    private fun predicted(
        filter: Int,
        at: Int,
    ): Int {
        val left = if (at >= distance) line[at - distance].toInt() and 255 else 0
        val up = above[at].toInt() and 255
        if (filter < 4) {
            return if (filter == 1) {
                left
            } else if (filter == 2) {
                up
            } else {
                (left + up) / 2
            }
        }
        val corner = if (at >= distance) above[at - distance].toInt() and 255 else 0
        val guess = left + up - corner
        val nearer = if (abs(guess - left) <= abs(guess - up)) left else up
        return if (abs(guess - nearer) <= abs(guess - corner)) nearer else corner
    }
}
