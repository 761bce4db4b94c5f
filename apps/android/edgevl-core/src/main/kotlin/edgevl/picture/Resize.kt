package edgevl.picture

import edgevl.BadInput
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

private const val BITS = 22
private const val HALF = 1 shl (BITS - 1)

/** A kernel of the contract: how far it reaches, and its weight at a distance. */
internal enum class Kernel(
    val reach: Int,
) {
    TRIANGLE(1) {
        override fun weight(x: Double) = max(0.0, 1 - abs(x))
    },
    CUBIC(2) {
        override fun weight(x: Double): Double {
            val d = abs(x)
            return when {
                d < 1 -> (1.5 * d - 2.5) * d * d + 1
                d < 2 -> (((d - 5) * d + 8) * d - 4) * -0.5
                else -> 0.0
            }
        }
    },
    ;

    abstract fun weight(x: Double): Double
}

/** Integer factors of one pass from [n] to [m] samples: those of result i stand in k[starts[i] until starts[i + 1]]. */
private class Factors(
    n: Int,
    m: Int,
    kernel: Kernel,
) {
    val first = IntArray(m)
    val starts = IntArray(m + 1)
    val k: IntArray

    init {
        val scale = n.toDouble() / m
        val widened = max(scale, 1.0)
        val support = kernel.reach * widened
        val all = ArrayList<IntArray>(m)
        for (out in 0 until m) {
            val center = (out + 0.5) * scale
            first[out] = max((center - support + 0.5).toInt(), 0)
            val last = min((center + support + 0.5).toInt(), n)
            val weights = DoubleArray(last - first[out]) { kernel.weight((first[out] + it - center + 0.5) * (1 / widened)) }
            var total = 0.0
            for (weight in weights) total += weight
            all += IntArray(weights.size) { rounded(weights[it] / total) }
            starts[out + 1] = starts[out] + weights.size
        }
        k = IntArray(starts[m])
        all.forEachIndexed { out, factors -> factors.copyInto(k, starts[out]) }
    }

    private fun rounded(share: Double): Int = (share * (1 shl BITS) + if (share < 0) -0.5 else 0.5).toInt()
}

/** Resize RGB [height, width, 3]: rows first, rounded to 8 bits, then columns. Throws [BadInput] for what is too large. */
internal fun resize(
    picture: Picture,
    width: Int,
    height: Int,
    kernel: Kernel,
): ByteArray {
    if (width.toLong() * max(picture.height, height) > MAX_PIXELS) {
        throw BadInput("the picture is ${picture.width} x ${picture.height}, too long to be resized to $width x $height: cut it")
    }
    val wide = if (picture.width == width) picture.rgb else horizontal(picture, width, kernel)
    return if (picture.height == height) wide else vertical(wide, width, picture.height, height, kernel)
}

private fun horizontal(
    picture: Picture,
    width: Int,
    kernel: Kernel,
): ByteArray {
    val factors = Factors(picture.width, width, kernel)
    val rgb = picture.rgb
    val result = ByteArray(3 * width * picture.height)
    var to = 0
    for (y in 0 until picture.height) {
        val row = 3 * y * picture.width
        for (x in 0 until width) {
            var from = row + 3 * factors.first[x]
            var red = HALF
            var green = HALF
            var blue = HALF
            for (at in factors.starts[x] until factors.starts[x + 1]) {
                val factor = factors.k[at]
                red += (rgb[from].toInt() and 255) * factor
                green += (rgb[from + 1].toInt() and 255) * factor
                blue += (rgb[from + 2].toInt() and 255) * factor
                from += 3
            }
            result[to++] = clipped(red)
            result[to++] = clipped(green)
            result[to++] = clipped(blue)
        }
    }
    return result
}

private fun vertical(
    rgb: ByteArray,
    width: Int,
    height: Int,
    newHeight: Int,
    kernel: Kernel,
): ByteArray {
    val factors = Factors(height, newHeight, kernel)
    val row = 3 * width
    val result = ByteArray(row * newHeight)
    val sums = IntArray(row)
    for (y in 0 until newHeight) {
        sums.fill(HALF)
        for (at in factors.starts[y] until factors.starts[y + 1]) {
            val factor = factors.k[at]
            val from = row * (factors.first[y] + at - factors.starts[y])
            for (x in 0 until row) sums[x] += (rgb[from + x].toInt() and 255) * factor
        }
        for (x in 0 until row) result[row * y + x] = clipped(sums[x])
    }
    return result
}

private fun clipped(sum: Int): Byte = (sum shr BITS).coerceIn(0, 255).toByte()
