package edgevl.picture

import edgevl.BadInput

internal const val MAX_PIXELS = 89_478_485L
internal const val MAX_PIXELS_OF_LARGE = 50_331_648L // of WebP, and of JPEG of four components
private const val MAX_SIDE = 1_000_000
private const val WHITE = 255

/**
 * An upright picture, RGB of 8 bits on white: what every image processing starts from (docs/bundle.md, "Pictures").
 *
 * Color profiles are ignored by the contract: hand over the samples as the file holds them, not converted.
 */
class Picture private constructor(
    val width: Int,
    val height: Int,
    internal val rgb: ByteArray,
) {
    /** Return a pixel as 0xFFRRGGBB, to show it. */
    fun argbAt(
        x: Int,
        y: Int,
    ): Int {
        val at = 3 * (y * width + x)
        val red = rgb[at].toInt() and 255
        val green = rgb[at + 1].toInt() and 255
        return (255 shl 24) or (red shl 16) or (green shl 8) or (rgb[at + 2].toInt() and 255)
    }

    companion object {
        /**
         * Make a picture of 0xAARRGGBB pixels, row after row, whose colors are not multiplied by their alpha.
         *
         * [orientation] is that of EXIF, 1 to 8, still to be applied. Throws [BadInput] for a size that is refused.
         */
        fun ofArgb(
            argb: IntArray,
            width: Int,
            height: Int,
            orientation: Int = 1,
        ): Picture {
            checkSize(width, height)
            require(argb.size.toLong() >= width.toLong() * height) { "${argb.size} pixels are fewer than $width x $height" }
            val rgb = ByteArray(3 * width * height)
            for (at in 0 until width * height) {
                val pixel = argb[at]
                putOnWhite(rgb, 3 * at, pixel shr 16 and 255, pixel shr 8 and 255, pixel and 255, pixel ushr 24)
            }
            return upright(rgb, width, height, orientation)
        }

        /**
         * Make a picture of samples as a file holds them: [channels] 1 gray, 3 RGB, 4 RGB and alpha; [depth] 8 bits, or
         * 16 in little endian.
         */
        fun ofSamples(
            samples: ByteArray,
            width: Int,
            height: Int,
            channels: Int,
            depth: Int = 8,
            orientation: Int = 1,
        ): Picture {
            checkSize(width, height)
            val bytes = samplesOf8Bits(samples, channels, depth)
            require(bytes.size == width * height * channels) { "the samples do not fill $width x $height x $channels" }
            val rgb = ByteArray(3 * width * height)
            for (at in 0 until width * height) {
                val from = at * channels
                val alpha = if (channels == 4) bytes[from + 3].toInt() and 255 else WHITE
                val color = IntArray(3) { bytes[from + if (channels == 1) 0 else it].toInt() and 255 }
                putOnWhite(rgb, 3 * at, color[0], color[1], color[2], alpha)
            }
            return upright(rgb, width, height, orientation)
        }

        /** Make a picture of RGB bytes, which it keeps where nothing is turned. */
        internal fun upright(
            rgb: ByteArray,
            width: Int,
            height: Int,
            orientation: Int,
        ): Picture {
            if (orientation !in 2..8) return Picture(width, height, rgb)
            val across = orientation >= 5
            return Picture(if (across) height else width, if (across) width else height, turned(rgb, width, height, orientation))
        }
    }
}

/** Throw [BadInput] for a size that is refused before any memory is taken. */
internal fun checkSize(
    width: Int,
    height: Int,
    most: Long = MAX_PIXELS,
) {
    if (width < 1 || height < 1) throw BadInput("the picture has no pixels ($width x $height)")
    if (width.toLong() * height >
        MAX_PIXELS
    ) {
        throw BadInput("the picture has $width x $height pixels, at most $most are read: make it smaller")
    }
    if (maxOf(width, height) > MAX_SIDE) throw BadInput("a side of the picture has more than $MAX_SIDE pixels: make it smaller")
}

internal fun onWhite(
    color: Int,
    alpha: Int,
): Int = (color * alpha + WHITE * (WHITE - alpha) + 127) / WHITE

internal fun putOnWhite(
    rgb: ByteArray,
    at: Int,
    red: Int,
    green: Int,
    blue: Int,
    alpha: Int,
) {
    rgb[at] = onWhite(red, alpha).toByte()
    rgb[at + 1] = onWhite(green, alpha).toByte()
    rgb[at + 2] = onWhite(blue, alpha).toByte()
}

/** Gray of 16 bits to 8. */
internal fun grayOf16Bits(value: Int): Int = (value + 128) / 257

private fun samplesOf8Bits(
    samples: ByteArray,
    channels: Int,
    depth: Int,
): ByteArray {
    if (depth == 8) return samples
    return ByteArray(samples.size / 2) { at ->
        val high = samples[2 * at + 1].toInt() and 255
        val gray = grayOf16Bits(high shl 8 or (samples[2 * at].toInt() and 255))
        (if (channels == 1) gray else high).toByte()
    }
}

/** Turn RGB by an orientation of 2 to 8: where the pixel at (x, y) of the result comes from. */
private fun turned(
    rgb: ByteArray,
    width: Int,
    height: Int,
    orientation: Int,
): ByteArray {
    val across = orientation >= 5
    val fromRight = orientation in setOf(2, 3, 7, 8)
    val fromBelow = orientation in setOf(3, 4, 6, 7)
    val result = ByteArray(rgb.size)
    val resultWidth = if (across) height else width
    for (y in 0 until (if (across) width else height)) {
        for (x in 0 until resultWidth) {
            val column = if (across) y else x
            val row = if (across) x else y
            val from = 3 * ((if (fromBelow) height - 1 - row else row) * width + if (fromRight) width - 1 - column else column)
            rgb.copyInto(result, 3 * (y * resultWidth + x), from, from + 3)
        }
    }
    return result
}
