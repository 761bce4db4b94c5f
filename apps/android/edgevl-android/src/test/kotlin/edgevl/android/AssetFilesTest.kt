package edgevl.android

import android.content.res.AssetManager
import edgevl.BundleRefused
import edgevl.Model
import edgevl.bundle.Bundle
import edgevl.onnx.OnnxRuntime
import edgevl.replayGolden
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

/** A bundle inside an APK, read by Android's own AssetManager. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE)
class AssetFilesTest {
    private val bundle = File(System.getProperty("edgevl.fixtures"), "conformance/bundles/nano-fp32-split.edgevl")

    /** The assets of an APK with the files of the bundle, and perhaps one more. */
    private fun assets(extra: String? = null): AssetManager {
        val apk = File.createTempFile("edgevl", ".apk").also(File::deleteOnExit)
        ZipOutputStream(apk.outputStream()).use { zip ->
            val files = bundle.walk().filter(File::isFile).associate { it.relativeTo(bundle).path to it.readBytes() }
            for ((name, bytes) in files + listOfNotNull(extra?.let { it to ByteArray(1) })) {
                zip.putNextEntry(ZipEntry("assets/model.edgevl/$name"))
                zip.write(bytes)
            }
        }
        val assets = AssetManager::class.java.getDeclaredConstructor().newInstance()
        val added = AssetManager::class.java.getMethod("addAssetPath", String::class.java).invoke(assets, apk.path)
        assertTrue(added != 0, "the assets were not added")
        return assets
    }

    @Test
    fun `golden cases of a bundle among the assets`() {
        val opened = Bundle.open(AssetFiles(assets(), "model.edgevl"))
        assertEquals(6, Model.open(opened, OnnxRuntime(threads = 1)).use { it.replayGolden() })
    }

    @Test
    fun `a file that the manifest does not list is noticed there, too`() {
        assertFailsWith<BundleRefused> { Bundle.open(AssetFiles(assets("golden/extra.py"), "model.edgevl")) }
        assertFailsWith<BundleRefused> { Bundle.open(AssetFiles(assets(), "nothing.edgevl")) }
    }
}
