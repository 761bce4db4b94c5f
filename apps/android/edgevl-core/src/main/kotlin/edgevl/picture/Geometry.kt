package edgevl.picture

import edgevl.BadInput
import edgevl.bundle.ImageProcessing

private const val GRAY: Byte = 114
private const val MAX_RATIO = 200

/** Return uint8 [S, S, 3] of a picture: rows, then columns, then R, G, B. Throws [BadInput] for one that does not fit. */
fun ImageProcessing.pixels(picture: Picture): ByteArray {
    val kernel = if (kernel == "cubic") Kernel.CUBIC else Kernel.TRIANGLE
    return when (geometry) {
        "shortest-edge" -> shortestEdge(picture, this, kernel)
        "letterbox" -> letterbox(picture, size, kernel)
        else -> resize(picture, size, size, kernel)
    }
}

/** The short side becomes E; then the central S x S, rounded to the top left. */
private fun shortestEdge(
    picture: Picture,
    processing: ImageProcessing,
    kernel: Kernel,
): ByteArray {
    val (width, height) = resizedSides(picture.width, picture.height, processing)
    val size = processing.size
    val pixels = resize(picture, width, height, kernel)
    val square = ByteArray(3 * size * size)
    for (y in 0 until size) {
        val from = 3 * ((y + (height - size) / 2) * width + (width - size) / 2)
        pixels.copyInto(square, 3 * y * size, from, from + 3 * size)
    }
    return square
}

private fun letterbox(
    picture: Picture,
    size: Int,
    kernel: Kernel,
): ByteArray {
    val (width, height) = letterboxed(picture.width, picture.height, size)
    val pixels = resize(picture, width, height, kernel)
    val square = ByteArray(3 * size * size) { GRAY }
    for (y in 0 until height) {
        val to = 3 * ((y + (size - height) / 2) * size + (size - width) / 2)
        pixels.copyInto(square, to, 3 * y * width, 3 * (y + 1) * width)
    }
    return square
}

private fun resizedSides(
    width: Int,
    height: Int,
    processing: ImageProcessing,
): Pair<Int, Int> {
    val edge = processing.shortestEdge ?: processing.size
    val short = minOf(width, height)
    val long = maxOf(width, height)
    if (long >
        MAX_RATIO.toLong() * short
    ) {
        throw BadInput("the picture is $width x $height, too long: at most $MAX_RATIO times its short side")
    }
    val other = (edge.toLong() * long / short).toInt()
    return if (width <= height) edge to other else other to edge
}

private fun letterboxed(
    width: Int,
    height: Int,
    size: Int,
): Pair<Int, Int> {
    val long = maxOf(width, height).toLong()

    fun side(length: Int) = maxOf(1, ((2L * size * length + long) / (2 * long)).toInt())
    return side(width) to side(height)
}

/**
 * Return a box of the picture itself: [box] is left, top, right, bottom as shares of the square that the model sees, the
 * result as shares of the sides of the upright picture, cut at its edges.
 */
fun ImageProcessing.boxOnPicture(
    box: List<Double>,
    picture: Picture,
): List<Double> {
    val (width, height) =
        when (geometry) {
            "shortest-edge" -> resizedSides(picture.width, picture.height, this)
            "letterbox" -> letterboxed(picture.width, picture.height, size)
            else -> size to size
        }
    return box.mapIndexed { index, share ->
        val side = if (index % 2 == 0) width else height
        val margin = (side - size) / 2 // cut off, or below zero where gray was added; rounded toward zero
        ((share * size + margin) / side).coerceIn(0.0, 1.0)
    }
}
