package edgevl.bundle

import java.text.Normalizer
import java.util.Locale

private const val LONGEST_PATH = 255
private val FORBIDDEN = Regex("[<>:\"|?*\\\\\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]")
private val WINDOWS_DEVICE =
    Regex("(con|prn|aux|nul|conin\\$|conout\\$|(com|lpt)[0-9\\u00b9\\u00b2\\u00b3]) *(\\..*)?", RegexOption.IGNORE_CASE)

/** Say why [path] may not only name a file inside its folder, on every system; null if it can name nothing else. */
internal fun pathProblem(path: String): String? {
    val parts = path.split('/')
    val shown = "'${path.take(80)}'"
    return when {
        path.isEmpty() || path.codePointCount(0, path.length) > LONGEST_PATH || FORBIDDEN.containsMatchIn(path) ->
            "$shown is not a plain relative path"
        path.startsWith('/') || path.startsWith('~') || parts.any { it in setOf("", ".", "..") } ->
            "$shown leaves the bundle's folder"
        parts.any { it.endsWith('.') || it.endsWith(' ') || WINDOWS_DEVICE.matches(it) } ->
            "$shown names something else on Windows"
        else -> null
    }
}

internal fun folderNameProblem(name: String): String? {
    val bad = name.isEmpty() || name in setOf(".", "..") || name.any { it == '/' || it == '\\' || it == '\u0000' }
    return if (bad) "'${name.take(80)}' is not the name of a model folder" else null
}

/** What `format` of the schema means. */
internal val FORMATS = mapOf("relative-path" to ::pathProblem, "folder-name" to ::folderNameProblem)

/**
 * A path as file systems compare them that ignore case: composed, then with Unicode's full case folding. The platform
 * has no case folding, and lower of upper of lower case is the same but for the dotless i.
 */
internal fun folded(path: String): String {
    val composed = Normalizer.normalize(path, Normalizer.Form.NFC)
    return composed.split('ı').joinToString("ı") {
        it
            .lowercase(Locale.ROOT)
            .uppercase(Locale.ROOT)
            .lowercase(Locale.ROOT)
            .replace('ς', 'σ')
    }
}
