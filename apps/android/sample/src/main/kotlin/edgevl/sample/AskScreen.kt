package edgevl.sample

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Color
import android.text.InputType
import android.view.Gravity
import android.view.View
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.view.WindowInsets
import android.view.inputmethod.EditorInfo
import android.widget.EditText
import android.widget.FrameLayout
import android.widget.HorizontalScrollView
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import edgevl.Answer

private const val WIDEST = 560 // dp of the column on tablets

/** The views of the main screen; what they do, the activity says. */
class AskScreen(
    context: Context,
    private val actions: Actions,
) : ScrollView(context) {
    interface Actions {
        fun choosePicture()

        fun openCamera()

        fun ask(text: String)

        fun testBundle()
    }

    private val widgets = Widgets(context)
    private val picture = ImageView(context)
    private val hint = widgets.text("Choose a picture, then ask about it", 16f, widgets.colors.muted)
    private val examples = widgets.row()
    private val status = widgets.text("", 14f, widgets.colors.muted)
    private val answer = AnswerBars(context, widgets)
    val question = EditText(context)

    init {
        isFillViewport = true
        setBackgroundColor(widgets.colors.background)
        addView(column(), LayoutParams(LayoutParams.MATCH_PARENT, LayoutParams.WRAP_CONTENT, Gravity.CENTER_HORIZONTAL))
        setOnApplyWindowInsetsListener { _, insets -> keepClear(insets) }
    }

    fun showPicture(bitmap: Bitmap?) {
        picture.setImageBitmap(bitmap)
        scrollTo(0, 0)
        hint.visibility = if (bitmap == null) VISIBLE else GONE
    }

    /** Show an answer, or none, and bring it into view. */
    fun showAnswer(found: Answer?) {
        if (found == null) return answer.hide()
        answer.show(found)
        post { smoothScrollTo(0, answer.bottom) }
    }

    /** Offer texts that the bundle brings as examples. */
    fun showExamples(texts: List<String>) {
        examples.removeAllViews()
        with(widgets) {
            texts.forEachIndexed { index, text ->
                examples.put(button(text) { askExample(text) }.apply { textSize = 14f }, WRAP_CONTENT, before = if (index > 0) 8 else 0)
            }
        }
    }

    fun showStatus(
        words: String,
        isProblem: Boolean = false,
    ) {
        status.text = words
        status.setTextColor(if (isProblem) widgets.colors.warning else widgets.colors.muted)
    }

    private fun askExample(text: String) {
        question.setText(text)
        question.setSelection(text.length)
        actions.ask(text)
    }

    private fun column(): LinearLayout =
        with(widgets) {
            val column = column(20)
            column.put(text("Ask a picture", 28f, isBold = true).apply { isAccessibilityHeading = true })
            column.put(frame(), height = dp(pictureHeight()), above = 16)
            val sources = row()
            sources.put(button("Choose picture") { actions.choosePicture() }, 0, weight = 1f)
            sources.put(button("Camera") { actions.openCamera() }, 0, before = 12, weight = 1f)
            column.put(sources, above = 12)
            column.put(asking(), above = 16)
            val scroll = HorizontalScrollView(context).apply { isHorizontalScrollBarEnabled = false }
            scroll.addView(examples)
            column.put(scroll, above = 12)
            column.put(answer, above = 16)
            column.put(status.apply { accessibilityLiveRegion = ACCESSIBILITY_LIVE_REGION_POLITE }, above = 12)
            column.put(selfTest(), WRAP_CONTENT, above = 4)
            column
        }

    private fun pictureHeight(): Int = (resources.configuration.screenHeightDp / 3).coerceIn(160, 400)

    private fun frame(): View =
        FrameLayout(context).apply {
            background = widgets.rounded(widgets.colors.surface)
            clipToOutline = true
            picture.scaleType = ImageView.ScaleType.CENTER_CROP
            picture.contentDescription = "The picture that you ask about"
            addView(picture, LayoutParams.MATCH_PARENT, LayoutParams.MATCH_PARENT)
            addView(hint, FrameLayout.LayoutParams(WRAP_CONTENT, WRAP_CONTENT, Gravity.CENTER))
        }

    private fun Widgets.asking(): LinearLayout =
        row().also { row ->
            question.hint = "Your question"
            question.inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_CAP_SENTENCES
            question.imeOptions = EditorInfo.IME_ACTION_SEND
            question.setTextColor(colors.text)
            question.setHintTextColor(colors.muted)
            question.background = rounded(colors.surface)
            question.minHeight = dp(48)
            question.setPadding(dp(16), dp(8), dp(16), dp(8))
            question.setOnEditorActionListener { view, _, _ -> send(view) }
            row.put(question, 0, weight = 1f)
            row.put(button("Ask", isMain = true) { send(question) }, WRAP_CONTENT, before = 12)
        }

    private fun send(view: TextView): Boolean {
        actions.ask(view.text.toString())
        return true
    }

    private fun Widgets.selfTest(): View =
        text("Test this device", 14f, colors.accent).apply {
            minHeight = dp(48)
            gravity = Gravity.CENTER_VERTICAL
            background = pressable(Color.TRANSPARENT)
            setOnClickListener { actions.testBundle() }
        }

    /** Keep what can be touched out of the way of the system's bars and the keyboard. */
    private fun keepClear(insets: WindowInsets): WindowInsets {
        @Suppress("DEPRECATION") // its replacement came with Android 11
        setPadding(insets.systemWindowInsetLeft, insets.systemWindowInsetTop, insets.systemWindowInsetRight, insets.systemWindowInsetBottom)
        return insets
    }

    override fun onMeasure(
        widthMeasureSpec: Int,
        heightMeasureSpec: Int,
    ) {
        val free = MeasureSpec.getSize(widthMeasureSpec) - paddingLeft - paddingRight
        val child = getChildAt(0)
        child.layoutParams = (child.layoutParams as LayoutParams).apply { width = minOf(free, widgets.dp(WIDEST)) }
        super.onMeasure(widthMeasureSpec, heightMeasureSpec)
    }
}
