package edgevl.sample

import android.content.Context
import android.os.Handler
import android.os.Looper
import edgevl.Answer
import edgevl.EdgeVLException
import edgevl.Look
import edgevl.Model
import edgevl.android.AssetFiles
import edgevl.bundle.Bundle
import edgevl.bundle.BundleFiles
import edgevl.onnx.OnnxRuntime
import edgevl.picture.Picture
import edgevl.replayGolden
import java.util.concurrent.Executors

/** The bundle in `src/main/assets/model.edgevl`, opened once for the process, and asked on a thread of its own. */
object Assistant {
    /** Where the bundle lies; tests put another. */
    var files: (Context) -> BundleFiles = { AssetFiles(it.assets, "model.edgevl") }

    private val thread = Executors.newSingleThreadExecutor()
    private val main = Handler(Looper.getMainLooper())
    private var model: Model? = null
    private var look: Look? = null

    /** What became of a request: its result, or a sentence for the user. */
    class Outcome<T>(
        val value: T?,
        val problem: String?,
    )

    /** Open the bundle and give it to [then], on the main thread. */
    fun open(
        context: Context,
        then: (Outcome<Bundle>) -> Unit,
    ) = run(then) { opened(context).bundle }

    /** Read a picture, look at it once, and keep what was seen for the questions that follow. */
    fun look(
        context: Context,
        read: () -> Picture,
        then: (Outcome<Picture>) -> Unit,
    ) = run(then) { read().also { look = opened(context).look(it) } }

    /** Ask about the picture that was looked at last. */
    fun ask(
        text: String,
        then: (Outcome<Answer>) -> Unit,
    ) = run(then) { look?.ask(text) }

    /** Ask about one camera frame. Called from the camera's thread; returns there. */
    fun askNow(
        context: Context,
        picture: Picture,
        text: String,
    ): Answer = opened(context).ask(picture, text)

    /** Replay the golden cases of the bundle on this device. */
    fun test(
        context: Context,
        then: (Outcome<Int>) -> Unit,
    ) = run(then) { opened(context).replayGolden() }

    @Synchronized
    private fun opened(context: Context): Model =
        model ?: Model.open(Bundle.open(files(context)), OnnxRuntime(threads = 2)).also { model = it }

    private fun <T : Any> run(
        then: (Outcome<T>) -> Unit,
        work: () -> T?,
    ) {
        thread.execute {
            val outcome: Outcome<T> =
                try {
                    Outcome(work(), null)
                } catch (error: EdgeVLException) {
                    Outcome<T>(null, error.message)
                } catch (_: OutOfMemoryError) {
                    Outcome<T>(null, "The picture is too large for this device: choose a smaller one")
                }
            main.post { then(outcome) }
        }
    }
}
