package edgevl.executorch

import android.content.Context
import edgevl.BundleRefused
import edgevl.bundle.Bundle
import edgevl.bundle.DType
import edgevl.bundle.Program
import edgevl.bundle.TensorSpec
import edgevl.run.Runtime
import edgevl.run.Session
import edgevl.run.Tensor
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.pytorch.executorch.Tensor as TorchTensor

/**
 * ExecuTorch, for bundles of the target `executorch`. Written to the documentation of org.pytorch:executorch-android 1.x
 * and not compiled in this repository: see "What was not compiled" in docs/android.md.
 */
class ExecuTorchRuntime(
    private val context: Context,
) : Runtime {
    override val name = "ExecuTorch"
    override val target = "executorch"

    override fun open(
        bundle: Bundle,
        program: Program,
    ): Session {
        val file = File.createTempFile("edgevl", ".pte", context.cacheDir)
        file.writeBytes(bundle.read(program.artifact))
        return ExecuTorchSession(Module.load(file.path), program, file)
    }
}

/** A `.pte` has no names: its methods `input_names` and `output_names` give them, in the order of `forward`. */
private class ExecuTorchSession(
    private val module: Module,
    private val program: Program,
    private val file: File,
) : Session {
    private val inputNames = names("input_names", program.inputs)
    private val outputNames = names("output_names", program.outputs)
    private val outputs = program.outputs.associateBy { it.name }

    private fun names(
        method: String,
        specs: List<TensorSpec>,
    ): List<String> {
        val names = module.execute(method)[0].toStr().split(',')
        if (names.toSet() != specs.map { it.name }.toSet()) throw BundleRefused("$method of ${program.artifact} gives $names")
        return names
    }

    @Synchronized
    override fun run(inputs: Map<String, Tensor>): Map<String, Tensor> {
        val given = inputNames.map { EValue.from(torch(inputs.getValue(it))) }
        val found = module.forward(*given.toTypedArray())
        return outputNames.withIndex().associate { (at, name) -> name to taken(outputs.getValue(name), found[at].toTensor()) }
    }

    private fun torch(tensor: Tensor): TorchTensor {
        val shape = LongArray(tensor.shape.size) { tensor.shape[it].toLong() }
        val bytes = tensor.data.duplicate().order(ByteOrder.nativeOrder())
        return when (tensor.dtype) {
            DType.FLOAT32 -> TorchTensor.fromBlob(bytes.asFloatBuffer(), shape)
            DType.INT32 -> TorchTensor.fromBlob(bytes.asIntBuffer(), shape)
            DType.INT64 -> TorchTensor.fromBlob(bytes.asLongBuffer(), shape)
            DType.UINT8 -> TorchTensor.fromBlobUnsigned(bytes, shape)
            else -> TorchTensor.fromBlob(bytes, shape)
        }
    }

    private fun taken(
        spec: TensorSpec,
        tensor: TorchTensor,
    ): Tensor {
        val numbers = tensor.dataAsFloatArray
        val bytes = ByteBuffer.allocateDirect(4 * numbers.size).order(ByteOrder.nativeOrder())
        bytes.asFloatBuffer().put(numbers)
        return Tensor(spec.dtype, spec.shape, bytes)
    }

    override fun close() {
        module.destroy()
        file.delete()
    }
}
