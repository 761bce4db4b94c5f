package edgevl.android

import android.content.Context
import android.content.res.AssetManager
import edgevl.bundle.Bundle
import edgevl.bundle.BundleFiles
import java.io.InputStream

/** A bundle among the assets of an app. */
class AssetFiles(
    private val assets: AssetManager,
    private val folder: String,
) : BundleFiles {
    override val name = folder.substringAfterLast('/')

    override fun list(): Map<String, Boolean> = paths(folder).associate { it.removePrefix("$folder/") to true }

    override fun open(path: String): InputStream = assets.open("$folder/$path", AssetManager.ACCESS_STREAMING)

    /** What has no entries is a file: an app holds no empty folders. */
    private fun paths(folder: String): List<String> =
        assets.list(folder).orEmpty().flatMap { name ->
            val path = "$folder/$name"
            paths(path).ifEmpty { listOf(path) }
        }
}

/** Open the bundle in `src/main/assets/[folder]`. Throws [edgevl.BundleRefused]. */
fun Bundle.Companion.ofAssets(
    context: Context,
    folder: String,
): Bundle = open(AssetFiles(context.assets, folder))
