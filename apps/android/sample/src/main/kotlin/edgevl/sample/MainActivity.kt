package edgevl.sample

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.provider.MediaStore
import edgevl.android.Pictures

private const val PICK = 1
private const val PICTURE = "picture"

/** Ask about a picture: choose one, type a question, read the answer. */
class MainActivity :
    Activity(),
    AskScreen.Actions {
    private lateinit var screen: AskScreen
    private var picture: Uri? = null
    private var isLooking = false

    override fun onCreate(state: Bundle?) {
        setTheme(android.R.style.Theme_DeviceDefault_DayNight)
        super.onCreate(state)
        actionBar?.hide()
        screen = AskScreen(this, this)
        setContentView(screen)
        screen.showStatus("Opening the model …")
        Assistant.open(this) { opened ->
            screen.showStatus(
                opened.problem ?: "${opened.value!!.manifest.name}, ${opened.value.manifest.precision}",
                opened.problem != null,
            )
            screen.showExamples(
                opened.value
                    ?.exampleTexts
                    .orEmpty()
                    .take(4),
            )
        }
        @Suppress("DEPRECATION") // the typed getter came with Android 13
        state?.getParcelable<Uri>(PICTURE)?.let(::look)
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putParcelable(PICTURE, picture)
    }

    override fun choosePicture() {
        val hasPicker = Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU
        val intent =
            if (hasPicker) {
                Intent(
                    MediaStore.ACTION_PICK_IMAGES,
                )
            } else {
                Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
            }
        @Suppress("DEPRECATION") // the platform has no other; AndroidX has
        startActivityForResult(intent.setType("image/*"), PICK)
    }

    override fun openCamera() = startActivity(Intent(this, CameraActivity::class.java))

    override fun testBundle() {
        screen.showStatus("Replaying the golden cases …")
        Assistant.test(this) { screen.showStatus(it.problem ?: "All ${it.value} golden cases pass on this device", it.problem != null) }
    }

    @Deprecated("the platform has no other")
    override fun onActivityResult(
        request: Int,
        result: Int,
        data: Intent?,
    ) {
        val chosen = data?.data
        if (request == PICK && result == RESULT_OK && chosen != null) look(chosen)
    }

    private fun look(uri: Uri) {
        picture = uri
        isLooking = true
        screen.showAnswer(null)
        screen.showStatus("Looking …")
        Assistant.look(this, { Pictures.read(contentResolver, uri) }) { seen ->
            isLooking = false
            screen.showPicture(seen.value?.let(::thumbnail))
            screen.showStatus(seen.problem ?: "", seen.problem != null)
            val waiting = screen.question.text.toString()
            if (seen.problem == null && waiting.isNotBlank()) ask(waiting)
        }
    }

    override fun ask(text: String) {
        if (picture == null) return screen.showStatus("Choose a picture first", true)
        if (isLooking) return
        Assistant.ask(text) { asked ->
            screen.showAnswer(asked.value)
            screen.showStatus(asked.problem ?: "", asked.problem != null)
        }
    }
}
