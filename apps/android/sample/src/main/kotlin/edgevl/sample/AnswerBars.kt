package edgevl.sample

import android.content.Context
import android.content.res.ColorStateList
import android.view.Gravity
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.LinearLayout
import android.widget.ProgressBar
import edgevl.Answer
import edgevl.Choice
import java.util.Locale

private const val STEPS = 1000

/** An answer in words, the best choices with bars, and how long it took. A screen reader hears the first two at once. */
class AnswerBars(
    context: Context,
    private val widgets: Widgets,
) : LinearLayout(context) {
    init {
        orientation = VERTICAL
        background = widgets.rounded(widgets.colors.surface)
        setPadding(widgets.dp(16), widgets.dp(12), widgets.dp(16), widgets.dp(16))
        accessibilityLiveRegion = ACCESSIBILITY_LIVE_REGION_POLITE
        visibility = View.GONE
    }

    fun show(answer: Answer) {
        removeAllViews()
        val choices = answer.choices(4)
        with(widgets) {
            val head = row()
            head.put(text(answer.text, 24f, isBold = true), 0, weight = 1f)
            head.put(text(String.format(Locale.getDefault(), "%.0f ms", answer.millis), 14f, colors.muted), WRAP_CONTENT)
            put(head)
            for (choice in choices) put(bar(choice), above = 8)
        }
        val best = choices.firstOrNull()
        contentDescription = if (best == null) answer.text else "${answer.text}, ${percent(best)}"
        visibility = View.VISIBLE
    }

    fun hide() {
        visibility = View.GONE
    }

    private fun Widgets.bar(choice: Choice) =
        row().also { row ->
            val bar = ProgressBar(context, null, android.R.attr.progressBarStyleHorizontal)
            bar.max = STEPS
            bar.progress = (STEPS * choice.share).toInt()
            bar.progressTintList = ColorStateList.valueOf(colors.accent)
            bar.progressBackgroundTintList = ColorStateList.valueOf(colors.track)
            row.put(text(choice.label, 15f), 0, weight = 2f)
            row.put(bar, 0, dp(20), weight = 3f)
            row.put(text(percent(choice), 14f, colors.muted).apply { gravity = Gravity.END }, dp(56))
        }

    private fun percent(choice: Choice) = String.format(Locale.getDefault(), "%.0f %%", 100 * choice.share)
}
