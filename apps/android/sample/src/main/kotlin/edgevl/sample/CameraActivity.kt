package edgevl.sample

import android.Manifest.permission.CAMERA
import android.app.Activity
import android.content.pm.PackageManager.PERMISSION_GRANTED
import android.os.Bundle
import android.text.Editable
import android.text.TextWatcher
import android.view.Gravity
import android.view.TextureView
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.EditText
import android.widget.FrameLayout
import edgevl.Answer
import edgevl.EdgeVLException
import edgevl.picture.Picture

/** Ask the camera: the answer to one question, of each frame as soon as the one before is done. */
class CameraActivity : Activity() {
    private lateinit var preview: TextureView
    private lateinit var question: EditText
    private lateinit var answer: AnswerBars
    private var feed: CameraFeed? = null

    @Volatile
    private var text = ""

    override fun onCreate(state: Bundle?) {
        setTheme(android.R.style.Theme_DeviceDefault_DayNight)
        super.onCreate(state)
        actionBar?.hide()
        preview = TextureView(this)
        setContentView(screen())
        Assistant.open(this) { question.setText(it.value?.exampleTexts?.firstOrNull() ?: "") }
        if (checkSelfPermission(CAMERA) != PERMISSION_GRANTED) requestPermissions(arrayOf(CAMERA), 1)
    }

    override fun onResume() {
        super.onResume()
        if (checkSelfPermission(CAMERA) == PERMISSION_GRANTED) start()
    }

    override fun onPause() {
        feed?.close()
        feed = null
        super.onPause()
    }

    override fun onRequestPermissionsResult(
        request: Int,
        permissions: Array<out String>,
        results: IntArray,
    ) {
        if (results.firstOrNull() != PERMISSION_GRANTED) finish()
    }

    private fun start() {
        feed = feed ?: CameraFeed(this, preview, ::seen).also(CameraFeed::open)
    }

    /** Called from the camera's thread. */
    private fun seen(picture: Picture) {
        val asked = text.ifBlank { return }
        try {
            val found = Assistant.askNow(this, picture, asked)
            runOnUiThread { show(found) }
        } catch (error: EdgeVLException) {
            runOnUiThread { question.error = error.message }
        }
    }

    internal fun show(found: Answer) = answer.show(found)

    private fun screen() =
        FrameLayout(this).apply {
            val widgets = Widgets(this@CameraActivity)
            answer = AnswerBars(this@CameraActivity, widgets)
            question =
                EditText(this@CameraActivity).apply {
                    hint = "Your question"
                    setHintTextColor(widgets.colors.muted)
                    setTextColor(widgets.colors.text)
                    background = widgets.rounded(widgets.colors.surface)
                    setPadding(widgets.dp(16), widgets.dp(8), widgets.dp(16), widgets.dp(8))
                    minHeight = widgets.dp(48)
                    isSingleLine = true
                    addTextChangedListener(Typing { this@CameraActivity.text = it })
                }
            addView(preview, MATCH_PARENT, MATCH_PARENT)
            val below = widgets.column(16)
            with(widgets) {
                below.put(answer)
                below.put(question, above = 12)
            }
            addView(below, FrameLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT, Gravity.BOTTOM))
            fitsSystemWindows = true
        }
}

/** Tells what stands in a text field, whenever it changes. */
private class Typing(
    private val then: (String) -> Unit,
) : TextWatcher {
    override fun afterTextChanged(text: Editable) = then(text.toString())

    override fun beforeTextChanged(
        text: CharSequence,
        start: Int,
        count: Int,
        after: Int,
    ) {}

    override fun onTextChanged(
        text: CharSequence,
        start: Int,
        before: Int,
        count: Int,
    ) {}
}
