package edgevl.onnx

import ai.onnxruntime.NodeInfo
import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import edgevl.BundleRefused
import edgevl.bundle.Bundle
import edgevl.bundle.DType
import edgevl.bundle.Program
import edgevl.bundle.TensorSpec
import edgevl.run.Runtime
import edgevl.run.Session
import edgevl.run.Tensor
import java.nio.ByteBuffer
import java.nio.ByteOrder

private const val SILENCE = "ORT_DISABLE_TELEMETRY"
private val TYPES =
    mapOf(
        DType.UINT8 to OnnxJavaType.UINT8,
        DType.INT8 to OnnxJavaType.INT8,
        DType.INT32 to OnnxJavaType.INT32,
        DType.INT64 to OnnxJavaType.INT64,
        DType.FLOAT16 to OnnxJavaType.FLOAT16,
        DType.FLOAT32 to OnnxJavaType.FLOAT,
    )

/**
 * ONNX Runtime on the processor.
 *
 * From version 1.29 on it reports usage to its maker unless `ORT_DISABLE_TELEMETRY=1` is in the environment before it is
 * loaded. On Android this class puts it there. A JVM cannot change its own environment: there this class refuses to load
 * ONNX Runtime without the variable, unless [mayReportUsage].
 */
class OnnxRuntime(
    private val threads: Int = 2,
    mayReportUsage: Boolean = false,
) : Runtime {
    init {
        if (!mayReportUsage) silence()
    }

    private val environment: OrtEnvironment = OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR, "edgevl")
    override val name = "onnxruntime ${environment.version}, CPU"
    override val target = "onnx"

    override fun open(
        bundle: Bundle,
        program: Program,
    ): Session {
        val bytes = bundle.read(program.artifact)
        checkWeights(bytes, program.artifact)
        val session =
            try {
                OrtSession.SessionOptions().use { options ->
                    options.setIntraOpNumThreads(threads)
                    options.setInterOpNumThreads(1)
                    environment.createSession(bytes, options)
                }
            } catch (error: OrtException) {
                throw BundleRefused("$name, refuses ${program.artifact}: ${error.message}")
            }
        return OnnxSession(environment, session, program).also { it.checkInterface() }
    }

    private fun checkWeights(
        bytes: ByteArray,
        artifact: String,
    ) {
        val elsewhere =
            try {
                OnnxFile(bytes).keepsWeightsElsewhere()
            } catch (error: IllegalArgumentException) {
                throw BundleRefused("$artifact is truncated or not ONNX: ${error.message}")
            }
        if (elsewhere) throw BundleRefused("$artifact keeps weights in other files, a bundle has them inside: export it again")
    }
}

/** Make sure that ONNX Runtime, once loaded, reports nothing. */
private fun silence() {
    if (System.getenv(SILENCE) == "1") return
    try {
        val os = Class.forName("android.system.Os")
        os.getMethod("setenv", String::class.java, String::class.java, Boolean::class.javaPrimitiveType).invoke(null, SILENCE, "1", true)
    } catch (_: ReflectiveOperationException) {
        error(
            "ONNX Runtime would report usage to its maker: start the process with $SILENCE=1 in its environment, or allow it with mayReportUsage",
        )
    }
}

private class OnnxSession(
    private val environment: OrtEnvironment,
    private val session: OrtSession,
    private val program: Program,
) : Session {
    private val outputs = program.outputs.associateBy { it.name }

    /** Close the session and throw unless the artifact takes and gives what the manifest says. */
    fun checkInterface() {
        for ((side, specs, found) in listOf(
            Triple("inputs", program.inputs, session.inputInfo),
            Triple("outputs", program.outputs, session.outputInfo),
        )) {
            val fits = specs.map { it.name }.toSet() == found.keys && specs.all { fits(it, found.getValue(it.name)) }
            if (fits) continue
            session.close()
            throw BundleRefused("the $side of ${program.artifact} are not what the manifest says")
        }
    }

    private fun fits(
        spec: TensorSpec,
        found: NodeInfo,
    ): Boolean {
        val info = found.info as? TensorInfo ?: return false
        return info.type == TYPES[spec.dtype] && info.shape.toList() == spec.shape.map { it.toLong() }
    }

    override fun run(inputs: Map<String, Tensor>): Map<String, Tensor> {
        val tensors = LinkedHashMap<String, OnnxTensor>()
        try {
            for ((name, tensor) in inputs) tensors[name] = given(tensor)
            return session.run(tensors).use { result ->
                result.associate { (name, value) ->
                    name to
                        taken(value as OnnxTensor, outputs.getValue(name))
                }
            }
        } catch (error: OrtException) {
            throw BundleRefused("${program.artifact} fails when it runs: ${error.message}")
        } finally {
            tensors.values.forEach(OnnxTensor::close)
        }
    }

    private fun given(tensor: Tensor): OnnxTensor {
        val shape = LongArray(tensor.shape.size) { tensor.shape[it].toLong() }
        return OnnxTensor.createTensor(
            environment,
            tensor.data.duplicate().order(ByteOrder.nativeOrder()),
            shape,
            TYPES.getValue(tensor.dtype),
        )
    }

    /** Copy an output out of ONNX Runtime's memory. */
    private fun taken(
        value: OnnxTensor,
        spec: TensorSpec,
    ): Tensor {
        val source = value.byteBuffer
        val copy = ByteBuffer.allocateDirect(source.remaining()).order(ByteOrder.nativeOrder())
        copy.put(source).rewind()
        return Tensor(spec.dtype, value.info.shape.map { it.toInt() }, copy)
    }

    override fun close() = session.close()
}
