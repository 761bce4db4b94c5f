package edgevl.sample

import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import edgevl.Model
import edgevl.bundle.Bundle
import edgevl.bundle.FolderFiles
import edgevl.onnx.OnnxRuntime
import edgevl.replayGolden
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import java.io.File
import kotlin.test.assertTrue

private const val PATIENCE_MS = 60_000

/** The bundle that the app is built with computes what its golden cases say, and the app opens it and says so. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE)
class BundleTest {
    private val bundle =
        File("src/main/assets/model.edgevl").takeIf(File::exists)
            ?: File(System.getProperty("edgevl.fixtures"), "conformance/bundles/nano-fp32-split.edgevl")

    @Test
    fun `golden cases`() {
        val replayed = Model.open(Bundle.open(bundle), OnnxRuntime(threads = 1)).use { it.replayGolden() }
        assertTrue(replayed >= 1)
    }

    @Test
    fun `the app tests itself with it`() {
        Assistant.files = { FolderFiles(bundle) }
        val activity = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        activity.testBundle()
        val until = System.currentTimeMillis() + PATIENCE_MS
        while (words(activity.window.decorView).none { "golden cases pass" in it } && System.currentTimeMillis() < until) {
            Thread.sleep(10)
            shadowOf(Looper.getMainLooper()).idle()
        }
        val shown = words(activity.window.decorView)
        assertTrue(shown.any { "golden cases pass on this device" in it }, shown.toString())
    }

    private fun words(view: View): List<String> =
        when (view) {
            is TextView -> listOf(view.text.toString())
            is ViewGroup -> (0 until view.childCount).flatMap { words(view.getChildAt(it)) }
            else -> emptyList()
        }
}
