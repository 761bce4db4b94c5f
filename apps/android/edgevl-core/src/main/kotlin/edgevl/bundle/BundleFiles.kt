package edgevl.bundle

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.nio.file.Files
import java.nio.file.LinkOption.NOFOLLOW_LINKS
import java.nio.file.Path
import java.security.MessageDigest

/** Where the files of a bundle lie: a folder, the assets of an app, memory. */
interface BundleFiles {
    /** For messages: the name of the folder. */
    val name: String

    /**
     * All files by their relative path with slashes, and whether each is a plain file (no link, no device); null where
     * they cannot be listed, as behind a web address: then nobody can tell that there is one too many.
     */
    fun list(): Map<String, Boolean>?

    /** Open a file. Throws [IOException] where there is none. */
    fun open(path: String): InputStream
}

/** The files of a folder. Links are not followed. */
class FolderFiles(
    folder: File,
) : BundleFiles {
    private val root: Path = folder.toPath().toAbsolutePath().normalize()
    override val name: String = folder.name

    override fun list(): Map<String, Boolean> {
        val found = sortedMapOf<String, Boolean>()
        walk(root, "", found)
        return found
    }

    override fun open(path: String): InputStream {
        val file = root.resolve(path)
        if (!Files.isRegularFile(file, NOFOLLOW_LINKS)) throw IOException("is missing, or no plain file")
        return Files.newInputStream(file)
    }

    private fun walk(
        folder: Path,
        prefix: String,
        found: MutableMap<String, Boolean>,
    ) {
        Files.newDirectoryStream(folder).use { entries ->
            for (entry in entries) {
                val name = prefix + entry.fileName
                val deep = name.length > LONGEST_NAME
                if (!deep && Files.isDirectory(entry, NOFOLLOW_LINKS)) {
                    walk(entry, "$name/", found)
                } else {
                    found[name] = !deep && Files.isRegularFile(entry, NOFOLLOW_LINKS)
                }
            }
        }
    }

    private companion object {
        const val LONGEST_NAME = 255
    }
}

/** Files in memory, by path. */
class MemoryFiles(
    override val name: String,
    private val files: Map<String, ByteArray>,
) : BundleFiles {
    override fun list() = files.mapValues { true }

    override fun open(path: String) = ByteArrayInputStream(files[path] ?: throw IOException("is missing"))
}

internal fun BundleFiles.read(
    path: String,
    limit: Long,
): ByteArray {
    open(path).use { stream ->
        val bytes = ByteArrayOutputStream()
        stream.eachBlock { block, count ->
            if (bytes.size() + count > limit) throw IOException("has more than $limit bytes")
            bytes.write(block, 0, count)
        }
        return bytes.toByteArray()
    }
}

/** Return the sha256 of a file, which may have [limit] bytes at most, and how many it has. */
internal fun BundleFiles.digest(
    path: String,
    limit: Long,
): Pair<String, Long> {
    val digest = MessageDigest.getInstance("SHA-256")
    var size = 0L
    open(path).use { stream ->
        stream.eachBlock { block, count ->
            size += count
            if (size > limit) throw IOException("has grown: more than $limit bytes")
            digest.update(block, 0, count)
        }
    }
    return hexadecimal(digest.digest()) to size
}

private inline fun InputStream.eachBlock(use: (ByteArray, Int) -> Unit) {
    val block = ByteArray(1 shl 16)
    while (true) {
        val count = read(block)
        if (count < 0) return
        use(block, count)
    }
}

internal fun sha256(bytes: ByteArray): String = hexadecimal(MessageDigest.getInstance("SHA-256").digest(bytes))

private fun hexadecimal(bytes: ByteArray) = bytes.joinToString("") { "%02x".format(it) }
