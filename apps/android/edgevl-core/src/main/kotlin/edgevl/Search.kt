package edgevl

import edgevl.decoding.product
import edgevl.picture.Picture
import java.util.concurrent.CopyOnWriteArrayList

/** Something that was found: the [key] that it was added under, and how near it is, −1 to 1. */
data class Hit<K>(
    val key: K,
    val score: Double,
)

/** An index of pictures by words. [model] must have the decoding `rank`. Safe to use from several threads. */
class PictureIndex<K>(
    private val model: Model,
) {
    private val entries = CopyOnWriteArrayList<Pair<K, FloatArray>>()
    val size: Int get() = entries.size

    /** Add a picture under a key, such as its address. Returns its embedding, to be kept for the next start. */
    fun add(
        key: K,
        picture: Picture,
    ): FloatArray = model.embed(picture).also { add(key, it) }

    /** Add an embedding that was made before, with the same bundle. */
    fun add(
        key: K,
        embedding: FloatArray,
    ) {
        entries += key to embedding
    }

    /** Return the pictures that fit the words best, the nearest first. */
    fun search(
        words: String,
        count: Int = 20,
    ): List<Hit<K>> {
        val wanted = model.embed(words)
        return entries.map { (key, row) -> Hit(key, product(row, wanted)) }.sortedByDescending { it.score }.take(count)
    }
}
