package edgevl

/** What the user of an app must hear, as one line that any screen takes. */
sealed class EdgeVLException(
    message: String,
) : RuntimeException(plain(message))

/** The bundle is not as it must be: damaged, hostile, or newer than this library. Copy it again, or update. */
class BundleRefused(
    message: String,
) : EdgeVLException(message)

/** What was asked cannot be answered: a picture or a text that does not fit, too few of them. */
class BadInput(
    message: String,
) : EdgeVLException(message)

private const val LONGEST_MESSAGE = 2000

/** Return one line without control characters: a bundle may hold any, and names of it stand in messages. */
internal fun plain(text: String): String {
    val line = StringBuilder()
    for (point in text.codePoints().toArray()) {
        when {
            Character.isWhitespace(point) -> line.append(' ')
            shows(point) -> line.appendCodePoint(point)
            else -> line.append("\\u{%x}".format(point))
        }
    }
    return line.toString().take(LONGEST_MESSAGE)
}

private fun shows(point: Int): Boolean =
    when (Character.getType(point).toByte()) {
        Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED -> false
        else -> true
    }
