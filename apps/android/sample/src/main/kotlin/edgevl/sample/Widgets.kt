package edgevl.sample

import android.content.Context
import android.content.res.ColorStateList
import android.graphics.Color
import android.graphics.Typeface
import android.graphics.drawable.GradientDrawable
import android.graphics.drawable.RippleDrawable
import android.view.Gravity
import android.view.View
import android.view.ViewGroup
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView

private const val TOUCH = 48 // dp: what a thumb hits
private const val ROUND = 16

/** Views of the platform in the app's clothes. Sizes are in dp. */
class Widgets(
    private val context: Context,
    val colors: Palette = Palette.of(context),
) {
    fun dp(value: Int): Int = (value * context.resources.displayMetrics.density + 0.5f).toInt()

    fun column(padding: Int = 0) =
        LinearLayout(context).apply {
            orientation = LinearLayout.VERTICAL
            setPadding(dp(padding), dp(padding), dp(padding), dp(padding))
        }

    fun row() =
        LinearLayout(context).apply {
            orientation = LinearLayout.HORIZONTAL
            gravity = Gravity.CENTER_VERTICAL
        }

    fun text(
        words: String,
        size: Float = 16f,
        color: Int = colors.text,
        isBold: Boolean = false,
    ) = TextView(context).apply {
        text = words
        textSize = size
        setTextColor(color)
        if (isBold) typeface = Typeface.create("sans-serif-medium", Typeface.NORMAL)
    }

    fun button(
        words: String,
        isMain: Boolean = false,
        click: () -> Unit,
    ) = Button(context).apply {
        text = words
        isAllCaps = false
        textSize = 16f
        stateListAnimator = null
        minHeight = dp(TOUCH)
        minimumHeight = dp(TOUCH)
        setPadding(dp(16), 0, dp(16), 0)
        setTextColor(if (isMain) colors.onAccent else colors.accent)
        background = pressable(if (isMain) colors.accent else colors.track)
        setOnClickListener { click() }
    }

    fun rounded(
        color: Int,
        radius: Int = ROUND,
    ) = GradientDrawable().apply {
        setColor(color)
        cornerRadius = dp(radius).toFloat()
    }

    fun pressable(color: Int): RippleDrawable {
        val ripple = ColorStateList.valueOf(colors.accent and 0x00FFFFFF or 0x33000000)
        return RippleDrawable(ripple, rounded(color), rounded(Color.WHITE))
    }

    /** Put a view below the others of a column. [weight]: its share of what room is left. */
    fun ViewGroup.put(
        view: View,
        width: Int = MATCH_PARENT,
        height: Int = WRAP_CONTENT,
        above: Int = 0,
        before: Int = 0,
        weight: Float = 0f,
    ) {
        val place = LinearLayout.LayoutParams(width, height, weight)
        place.topMargin = dp(above)
        place.marginStart = dp(before)
        addView(view, place)
    }
}
