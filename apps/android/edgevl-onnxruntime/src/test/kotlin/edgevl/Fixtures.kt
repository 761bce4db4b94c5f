package edgevl

import edgevl.bundle.Bundle
import edgevl.onnx.OnnxRuntime
import java.io.File

/** What tests/apps/android_fixtures.py wrote. */
object Fixtures {
    val folder = File(System.getProperty("edgevl.fixtures") ?: error("start the tests by Maven, which writes what they read"))
    val runtime = OnnxRuntime(threads = 1)

    fun bundle(name: String): File = File(folder, "conformance/bundles/$name.edgevl")

    fun open(name: String): Model = Model.open(Bundle.open(bundle(name)), runtime)

    /** A throw-away copy of a bundle. */
    fun copy(name: String): File {
        val copy =
            kotlin.io.path
                .createTempDirectory("edgevl")
                .toFile()
        copy.deleteOnExit()
        bundle(name).copyRecursively(copy, overwrite = true)
        return copy
    }
}
