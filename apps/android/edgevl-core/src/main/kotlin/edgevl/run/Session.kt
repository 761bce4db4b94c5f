package edgevl.run

import edgevl.bundle.Bundle
import edgevl.bundle.Program

/** An opened artifact. It may be called from several threads at once. */
interface Session : AutoCloseable {
    /** Run the program once: inputs and outputs by name, each with the batch of the program. */
    fun run(inputs: Map<String, Tensor>): Map<String, Tensor>

    override fun close()
}

/** What runs artifacts: one library below, such as onnxruntime. */
interface Runtime {
    /** Name and version, for people. */
    val name: String

    /** The `target` of the bundles that it runs. */
    val target: String

    /** Open one program. Throws [edgevl.BundleRefused] for an artifact that is not what the manifest says. */
    fun open(
        bundle: Bundle,
        program: Program,
    ): Session
}
