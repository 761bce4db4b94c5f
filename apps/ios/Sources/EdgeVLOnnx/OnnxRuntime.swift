import COnnxRuntime
import EdgeVLKit

let onnxTypes: [DType: ONNXTensorElementDataType] = [
  .uint8: ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, .int8: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, .int32: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
  .int64: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, .float16: ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
  .float32: ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
]

/// ONNX Runtime on the processor. It reports nothing.
public struct OnnxRuntime: Runtime {
  public let name: String
  public let target = "onnx"
  private let library: OnnxLibrary
  private let threads: Int

  public init(threads: Int = 2) throws {
    library = try OnnxLibrary.shared.get()
    name = "onnxruntime \(library.version), CPU"
    self.threads = threads
  }

  public func open(_ program: Program, of bundle: ModelBundle) throws -> any Session {
    let bytes = try bundle.read(program.artifact)
    try checkWeights(bytes, program.artifact)
    do {
      let session = try OnnxSession(library, bytes, program, threads: threads)
      try session.checkInterface()
      return session
    } catch let error as OnnxError {
      try refuse("\(name), refuses \(program.artifact): \(error.message)")
    }
  }

  private func checkWeights(_ bytes: [UInt8], _ artifact: String) throws {
    var file = OnnxFile(bytes)
    do {
      if try file.keepsWeightsElsewhere() {
        try refuse("\(artifact) keeps weights in other files, a bundle has them inside: export it again")
      }
    } catch let error as NoOnnx {
      try refuse("\(artifact) is truncated or not ONNX: \(error.message)")
    }
  }
}
