package edgevl.bundle

internal const val MANIFEST = "manifest.json"
internal const val CARD = "README.md"
internal const val DOMAIN = "domain.json"

private const val MIB = 1L shl 20
internal const val MAX_TEXT_BYTES = 16 * MIB
private const val MAX_DOMAIN_BYTES = MIB
private const val MAX_PICTURE_BYTES = 256 * MIB
private val LEFTOVER = Regex("\\.(manifest\\.json|README\\.md)\\.tmp-[0-9]+-[0-9a-f]+")

/** What the artifact of each target is called that a phone can run. */
private val ENDINGS = mapOf("onnx" to ".onnx", "executorch" to ".pte", "litert" to ".tflite")

/** Say which file [manifest] lists that no bundle may hold, or not so; null if there is none. */
internal fun filesProblem(manifest: Manifest): String? {
    val targets = ENDINGS.keys.joinToString(", ")
    val ending = ENDINGS[manifest.target] ?: return "it is for ${manifest.target}, and here run only $targets: export it again"
    val artifacts = manifest.programs.map { it.artifact }
    manifest.texts.firstOrNull { !it.endsWith(".json") }?.let { return "$it is not named .json" }
    artifacts.firstOrNull { !it.endsWith(ending) }?.let { return "$it is not named $ending" }
    return manifest.files.entries.firstNotNullOfOrNull { (name, entry) -> fileProblem(manifest, name, entry) }
}

private fun fileProblem(
    manifest: Manifest,
    name: String,
    entry: FileEntry,
): String? {
    val limit = sizeLimit(manifest, name)
    val known = name == CARD || name == DOMAIN || name in manifest.texts || isOfAnArtifact(manifest, name)
    return when {
        limit != null && entry.bytes > limit -> "$name has more than ${limit / MIB} MiB"
        known || name.endsWith(".png") -> null
        else -> "$name has no part in a bundle for ${manifest.target}"
    }
}

private fun isOfAnArtifact(
    manifest: Manifest,
    name: String,
) = manifest.programs.any { "$name/".startsWith(it.artifact + "/") }

/** The largest size of a file, null of an artifact. */
private fun sizeLimit(
    manifest: Manifest,
    name: String,
): Long? =
    when {
        isOfAnArtifact(manifest, name) -> null
        name == DOMAIN -> MAX_DOMAIN_BYTES
        name == CARD || name in manifest.texts -> MAX_TEXT_BYTES
        else -> MAX_PICTURE_BYTES
    }

/** Say which file is there and not in [manifest], or not a plain one; null if all are listed. */
internal fun folderProblem(
    manifest: Manifest,
    found: Map<String, Boolean>,
): String? {
    for ((name, plain) in found) {
        val ignored = name == MANIFEST || name == CARD || name.substringAfterLast('/') == ".DS_Store" || LEFTOVER.matches(name)
        if (!plain) return "$name is a link, or no plain file"
        if (name !in manifest.files && !ignored) return "$name is not in the manifest"
    }
    return null
}
