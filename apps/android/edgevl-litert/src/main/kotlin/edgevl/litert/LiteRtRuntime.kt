package edgevl.litert

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer
import edgevl.bundle.Bundle
import edgevl.bundle.DType
import edgevl.bundle.Program
import edgevl.bundle.TensorSpec
import edgevl.run.Runtime
import edgevl.run.Session
import edgevl.run.Tensor
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * LiteRT, for bundles of the target `litert`. Written to the documentation of com.google.ai.edge.litert 2.3 and not
 * compiled in this repository: see "What was not compiled" in docs/android.md.
 */
class LiteRtRuntime(
    private val context: Context,
    private val accelerator: Accelerator = Accelerator.CPU,
) : Runtime {
    override val name = "LiteRT"
    override val target = "litert"

    override fun open(
        bundle: Bundle,
        program: Program,
    ): Session {
        val file = File.createTempFile("edgevl", ".tflite", context.cacheDir)
        file.writeBytes(bundle.read(program.artifact))
        return try {
            LiteRtSession(CompiledModel.create(file.path, CompiledModel.Options(accelerator)), program)
        } finally {
            file.delete()
        }
    }
}

/** A compiled model has one set of buffers: calls are made one after the other. */
private class LiteRtSession(
    private val model: CompiledModel,
    private val program: Program,
) : Session {
    private val inputs = program.inputs.associate { it.name to model.createInputBuffer(it.name) }
    private val outputs = program.outputs.associate { it.name to model.createOutputBuffer(it.name) }

    @Synchronized
    override fun run(inputs: Map<String, Tensor>): Map<String, Tensor> {
        for ((name, tensor) in inputs) write(this.inputs.getValue(name), tensor)
        model.run(this.inputs, outputs)
        return program.outputs.associate { it.name to read(it, outputs.getValue(it.name)) }
    }

    private fun write(
        buffer: TensorBuffer,
        tensor: Tensor,
    ) {
        val bytes = tensor.data.duplicate().order(ByteOrder.nativeOrder())
        when (tensor.dtype) {
            DType.FLOAT32 -> buffer.writeFloat(FloatArray(bytes.remaining() / 4).also { bytes.asFloatBuffer().get(it) })
            DType.INT32 -> buffer.writeInt(IntArray(bytes.remaining() / 4).also { bytes.asIntBuffer().get(it) })
            DType.INT64 -> buffer.writeLong(LongArray(bytes.remaining() / 8).also { bytes.asLongBuffer().get(it) })
            else -> buffer.writeInt8(ByteArray(bytes.remaining()).also { bytes.get(it) })
        }
    }

    private fun read(
        spec: TensorSpec,
        buffer: TensorBuffer,
    ): Tensor {
        val numbers = buffer.readFloat()
        val bytes = ByteBuffer.allocateDirect(4 * numbers.size).order(ByteOrder.nativeOrder())
        bytes.asFloatBuffer().put(numbers)
        return Tensor(spec.dtype, spec.shape, bytes)
    }

    override fun close() = model.close()
}
