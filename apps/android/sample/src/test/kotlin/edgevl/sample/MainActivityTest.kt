package edgevl.sample

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.Canvas
import android.net.Uri
import android.os.Looper
import android.provider.MediaStore
import android.view.View
import android.view.View.MeasureSpec
import android.view.ViewGroup
import android.widget.Button
import android.widget.TextView
import edgevl.bundle.FolderFiles
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadows.ShadowActivity
import java.io.File
import java.io.FileOutputStream
import kotlin.test.assertEquals
import kotlin.test.assertNotNull
import kotlin.test.assertTrue

private const val PATIENCE_MS = 30_000

/** The app as its user sees it: Android's own views, drawn by its own graphics, with the real model behind them. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE, qualifiers = PHONE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class MainActivityTest {
    private val suite = File(System.getProperty("edgevl.fixtures"), "conformance")
    private val bundle = File(suite, "bundles/nano-fp32-split.edgevl")
    private val photo = File(bundle, "golden").listFiles()!!.minBy { it.name }
    private val screens = File("target/screens").apply { mkdirs() }

    @Before
    fun files() {
        Assistant.files = { FolderFiles(bundle) }
    }

    private fun started(): ActivityController<MainActivity> = Robolectric.buildActivity(MainActivity::class.java).setup()

    private fun views(view: View): List<View> =
        listOf(view) + if (view is ViewGroup) (0 until view.childCount).flatMap { views(view.getChildAt(it)) } else emptyList()

    private fun texts(activity: Activity) =
        views(activity.window.decorView).filterIsInstance<TextView>().filter { it.isShown }.map { it.text.toString() }

    private fun waitFor(
        activity: Activity,
        what: (List<String>) -> Boolean,
    ): List<String> {
        val until = System.currentTimeMillis() + PATIENCE_MS
        while (!what(texts(activity)) && System.currentTimeMillis() < until) {
            Thread.sleep(10)
            shadowOf(Looper.getMainLooper()).idle()
        }
        return texts(activity).also { assertTrue(what(it), it.toString()) }
    }

    private fun click(
        activity: Activity,
        words: String,
    ) = assertTrue(views(activity.window.decorView).filterIsInstance<TextView>().first { it.text.toString() == words }.performClick())

    /** Answer the photo picker as the user would. */
    private fun choose(
        activity: Activity,
        file: File,
    ) {
        click(activity, "Choose picture")
        val picker: ShadowActivity.IntentForResult = assertNotNull(shadowOf(activity).nextStartedActivityForResult)
        assertEquals(MediaStore.ACTION_PICK_IMAGES, picker.intent.action)
        val uri = Uri.parse("content://media/picker/${file.name}")
        shadowOf(RuntimeEnvironment.getApplication().contentResolver).registerInputStreamSupplier(uri) { file.inputStream() }
        shadowOf(activity).receiveResult(picker.intent, Activity.RESULT_OK, Intent().setData(uri))
    }

    private fun drawn(
        activity: Activity,
        name: String,
    ): Bitmap {
        val view = activity.window.decorView
        val metrics = activity.resources.displayMetrics
        val sides = listOf(metrics.widthPixels, metrics.heightPixels).map { MeasureSpec.makeMeasureSpec(it, MeasureSpec.EXACTLY) }
        view.measure(sides[0], sides[1])
        view.layout(0, 0, metrics.widthPixels, metrics.heightPixels)
        val bitmap = Bitmap.createBitmap(metrics.widthPixels, metrics.heightPixels, Bitmap.Config.ARGB_8888)
        view.draw(Canvas(bitmap))
        FileOutputStream(File(screens, "$name.png")).use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
        return bitmap
    }

    private fun answered(name: String) {
        val activity = started().get()
        waitFor(activity) { texts -> texts.any { it.startsWith("nano") } }
        drawn(activity, "$name-empty")
        choose(activity, photo)
        val example =
            views(activity.window.decorView)
                .filterIsInstance<Button>()
                .first { it.text.endsWith("?") }
                .text
                .toString()
        waitFor(activity) { "Looking …" !in it }
        click(activity, example)
        val shown = waitFor(activity) { texts -> texts.any { it.endsWith(" ms") } }
        assertTrue(shown.count { it.endsWith(" %") } == 4, shown.toString())
        val bitmap = drawn(activity, "$name-answer")
        val colors = (0 until 2000).map { bitmap.getPixel(it * 37 % bitmap.width, it * 91 % bitmap.height) }.toSet()
        assertTrue(colors.size > 50, "the screen shows the picture")
    }

    @Test
    fun `a question about a picture is answered`() = answered("phone-light")

    @Test
    @Config(qualifiers = "w360dp-h720dp-night-xhdpi")
    fun `at night`() = answered("phone-night")

    @Test
    @Config(qualifiers = "w840dp-h600dp-land-mdpi")
    fun `on a tablet`() = answered("tablet-light")

    @Test
    fun `the answer is the model's`() {
        val activity = started().get()
        waitFor(activity) { texts -> texts.any { it.startsWith("nano") } }
        choose(activity, photo)
        waitFor(activity) { "Looking …" !in it }
        val question = views(activity.window.decorView).filterIsInstance<android.widget.EditText>().first()
        val model = edgevl.Model.open(edgevl.bundle.Bundle.open(bundle), edgevl.onnx.OnnxRuntime(1))
        val wanted = model.use { it.ask(edgevl.picture.readPng(photo.readBytes()), "What color is it?").text }
        question.setText("What color is it?")
        click(activity, "Ask")
        val shown = waitFor(activity) { texts -> texts.any { it.endsWith(" ms") } }
        assertTrue(wanted in shown, "$wanted, $shown")
    }

    @Test
    fun `the device tests itself`() {
        val activity = started().get()
        click(activity, "Test this device")
        waitFor(activity) { "All 6 golden cases pass on this device" in it }
    }

    @Test
    fun `what goes wrong is said on the screen`() {
        val activity = started().get()
        waitFor(activity) { texts -> texts.any { it.startsWith("nano") } }
        click(activity, "Ask")
        waitFor(activity) { "Choose a picture first" in it }
        choose(activity, File(bundle, "labels.json"))
        waitFor(activity) { texts -> texts.any { "format that is not read" in it } }
        choose(activity, photo)
        waitFor(activity) { texts -> texts.none { "format that is not read" in it || it == "Looking …" } }
        click(activity, "Ask")
        waitFor(activity) { texts -> texts.any { "the text is empty" in it } }
    }

    @Test
    fun `everything that can be touched is large enough and has a name`() {
        val activity = started().get()
        waitFor(activity) { texts -> texts.any { it.startsWith("nano") } }
        drawn(activity, "phone-touch")
        val least = (47.5 * activity.resources.displayMetrics.density).toInt()
        val touchable = views(activity.window.decorView).filter { it.isClickable && it.isShown }
        assertTrue(touchable.size >= 6)
        for (view in touchable) {
            assertTrue(view.height >= least, "$view is ${view.height} pixels high, $least are needed")
            val name = (view as? TextView)?.let { it.text.ifEmpty { it.hint } } ?: view.contentDescription
            assertTrue(!name.isNullOrBlank(), "$view has no name")
        }
    }

    @Test
    fun `the camera is asked once the user allows it`() {
        val activity = started().get()
        click(activity, "Camera")
        assertEquals(CameraActivity::class.java.name, shadowOf(activity).nextStartedActivity.component?.className)
        val camera = Robolectric.buildActivity(CameraActivity::class.java).setup().get()
        assertEquals(listOf(android.Manifest.permission.CAMERA), shadowOf(camera).lastRequestedPermission.requestedPermissions.toList())
        val model = edgevl.Model.open(edgevl.bundle.Bundle.open(bundle), edgevl.onnx.OnnxRuntime(1))
        camera.show(model.use { it.ask(edgevl.picture.readPng(photo.readBytes()), "what color is it?") })
        waitFor(camera) { texts -> texts.any { it.endsWith("?") } }
        drawn(camera, "phone-camera")
        assertTrue(texts(camera).count { it.endsWith(" %") } == 4)
        camera.onRequestPermissionsResult(1, arrayOf(android.Manifest.permission.CAMERA), intArrayOf(-1))
        assertTrue(camera.isFinishing, "without a camera there is nothing to see")
    }

    @Test
    fun `a turned phone keeps picture and question`() {
        val controller = started()
        choose(controller.get(), photo)
        waitFor(controller.get()) { "Looking …" !in it && it.any { text -> text.endsWith("?") } }
        controller.recreate()
        val activity = controller.get()
        waitFor(activity) { "Looking …" !in it && "Choose a picture, then ask about it" !in it }
    }
}

private const val PHONE = "w360dp-h720dp-xhdpi"
