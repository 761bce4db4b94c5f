package edgevl.sample

import android.graphics.Bitmap
import edgevl.picture.Picture

private const val LONGEST = 1024

/** Return a bitmap to show, of at most 1024 pixels a side: every so many pixels of the picture. */
fun thumbnail(picture: Picture): Bitmap {
    val step = (maxOf(picture.width, picture.height) + LONGEST - 1) / LONGEST
    val width = maxOf(picture.width / step, 1)
    val height = maxOf(picture.height / step, 1)
    val argb =
        IntArray(width * height) {
            picture.argbAt(
                minOf(it % width * step, picture.width - 1),
                minOf(
                    it / width * step,
                    picture.height - 1,
                ),
            )
        }
    return Bitmap.createBitmap(argb, width, height, Bitmap.Config.ARGB_8888)
}
