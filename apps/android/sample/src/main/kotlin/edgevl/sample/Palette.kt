package edgevl.sample

import android.content.Context
import android.content.res.Configuration

/** Colors of the screens, by day and by night. */
class Palette(
    val background: Int,
    val surface: Int,
    val text: Int,
    val muted: Int,
    val accent: Int,
    val onAccent: Int,
    val track: Int,
    val warning: Int,
) {
    companion object {
        private val day =
            Palette(
                background = 0xFFF6F5F1.toInt(),
                surface = 0xFFFFFFFF.toInt(),
                text = 0xFF1B1D22.toInt(),
                muted = 0xFF5B606B.toInt(),
                accent = 0xFF2F5BD3.toInt(),
                onAccent = 0xFFFFFFFF.toInt(),
                track = 0xFFE4E7F1.toInt(),
                warning = 0xFFA1310F.toInt(),
            )
        private val night =
            Palette(
                background = 0xFF111318.toInt(),
                surface = 0xFF1C1F27.toInt(),
                text = 0xFFECEEF3.toInt(),
                muted = 0xFFA4AAB8.toInt(),
                accent = 0xFF9DB6FF.toInt(),
                onAccent = 0xFF0B1B4D.toInt(),
                track = 0xFF2B303C.toInt(),
                warning = 0xFFFFB59C.toInt(),
            )

        fun of(context: Context): Palette {
            val mode = context.resources.configuration.uiMode and Configuration.UI_MODE_NIGHT_MASK
            return if (mode == Configuration.UI_MODE_NIGHT_YES) night else day
        }
    }
}
