import COnnxRuntime
import EdgeVLKit

/// One opened artifact. ONNX Runtime allows calls from several threads at once.
final class OnnxSession: Session, @unchecked Sendable {
  private let library: OnnxLibrary
  private let session: OpaquePointer
  private let program: Program
  private var api: UnsafePointer<OrtApi> { library.api }

  init(_ library: OnnxLibrary, _ bytes: [UInt8], _ program: Program, threads: Int) throws {
    self.library = library
    self.program = program
    let api = library.api
    var (options, session): (OpaquePointer?, OpaquePointer?)
    try check(api, api.pointee.CreateSessionOptions(&options))
    defer { api.pointee.ReleaseSessionOptions(options) }
    try check(api, api.pointee.SetIntraOpNumThreads(options, Int32(threads)))
    try check(api, api.pointee.SetInterOpNumThreads(options, 1))
    try check(api, api.pointee.CreateSessionFromArray(library.environment, bytes, bytes.count, options, &session))
    guard let session else { throw OnnxError(message: "it gives no session") }
    self.session = session
  }

  deinit { library.api.pointee.ReleaseSession(session) }

  /// Throws unless the artifact takes and gives what the manifest says.
  func checkInterface() throws {
    let inputs = try described(api.pointee.SessionGetInputCount, api.pointee.SessionGetInputName, api.pointee.SessionGetInputTypeInfo)
    let outputs = try described(api.pointee.SessionGetOutputCount, api.pointee.SessionGetOutputName, api.pointee.SessionGetOutputTypeInfo)
    for (side, specs, found) in [("inputs", program.inputs.map(\.tensor), inputs), ("outputs", program.outputs, outputs)] {
      let fits = specs.count == found.count && specs.allSatisfy { found[$0.name] == Kind(onnxTypes[$0.dtype], $0.shape.map(Int64.init)) }
      if !fits { try refuse("the \(side) of \(program.artifact) are not what the manifest says") }
    }
  }

  /// Type and shape of a tensor; no type for what is no tensor.
  private struct Kind: Equatable {
    let type: ONNXTensorElementDataType?
    let shape: [Int64]

    init(_ type: ONNXTensorElementDataType?, _ shape: [Int64]) { (self.type, self.shape) = (type, shape) }
  }

  private typealias Count = @convention(c) (OpaquePointer?, UnsafeMutablePointer<Int>?) -> OpaquePointer?
  private typealias Name = @convention(c) (
    OpaquePointer?, Int, UnsafeMutablePointer<OrtAllocator>?, UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
  ) -> OpaquePointer?
  private typealias TypeInfo = @convention(c) (OpaquePointer?, Int, UnsafeMutablePointer<OpaquePointer?>?) -> OpaquePointer?

  private func described(_ count: Count, _ name: Name, _ type: TypeInfo) throws -> [String: Kind] {
    var number = 0
    try check(api, count(session, &number))
    var allocator: UnsafeMutablePointer<OrtAllocator>?
    try check(api, api.pointee.GetAllocatorWithDefaultOptions(&allocator))
    var found: [String: Kind] = [:]
    for index in 0..<number {
      var (text, info): (UnsafeMutablePointer<CChar>?, OpaquePointer?)
      try check(api, name(session, index, allocator, &text))
      defer { _ = api.pointee.AllocatorFree(allocator, text) }
      try check(api, type(session, index, &info))
      defer { api.pointee.ReleaseTypeInfo(info) }
      found[text.map { String(cString: $0) } ?? ""] = try kind(info)
    }
    return found
  }

  private func kind(_ info: OpaquePointer?) throws -> Kind {
    var tensor: OpaquePointer?
    try check(api, api.pointee.CastTypeInfoToTensorInfo(info, &tensor))
    guard let tensor else { return Kind(nil, []) }
    return try kind(ofTensor: tensor)
  }

  private func kind(ofTensor info: OpaquePointer) throws -> Kind {
    var (type, count) = (ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, 0)
    try check(api, api.pointee.GetTensorElementType(info, &type))
    try check(api, api.pointee.GetDimensionsCount(info, &count))
    var shape = [Int64](repeating: 0, count: count)
    try check(api, api.pointee.GetDimensions(info, &shape, count))
    return Kind(type, shape)
  }

  func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
    do {
      return try ran(program.inputs.compactMap { inputs[$0.tensor.name] })
    } catch let error as OnnxError {
      try refuse("\(program.artifact) fails when it runs: \(error.message)")
    }
  }

  private func ran(_ tensors: [Tensor]) throws -> [String: Tensor] {
    var given: [OpaquePointer?] = []
    var taken = [OpaquePointer?](repeating: nil, count: program.outputs.count)
    defer { for value in given + taken { if let value { api.pointee.ReleaseValue(value) } } }
    for tensor in tensors { given.append(try value(tensor)) }
    let (names, outputs) = (program.inputs.map(\.tensor.name), program.outputs.map(\.name))
    try withCStrings(names) { names in
      try withCStrings(outputs) { outputs in
        try check(api, api.pointee.Run(session, nil, names, given, given.count, outputs, outputs.count, &taken))
      }
    }
    var found: [String: Tensor] = [:]
    for (spec, value) in zip(program.outputs, taken) { found[spec.name] = try tensor(value, spec) }
    return found
  }

  /// Returns a value of ONNX Runtime with a copy of a tensor's bytes.
  private func value(_ tensor: Tensor) throws -> OpaquePointer? {
    var (value, allocator, data): (OpaquePointer?, UnsafeMutablePointer<OrtAllocator>?, UnsafeMutableRawPointer?)
    try check(api, api.pointee.GetAllocatorWithDefaultOptions(&allocator))
    let type = onnxTypes[tensor.dtype] ?? ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
    try check(api, api.pointee.CreateTensorAsOrtValue(allocator, tensor.shape.map(Int64.init), tensor.shape.count, type, &value))
    try check(api, api.pointee.GetTensorMutableData(value, &data))
    tensor.bytes.withUnsafeBytes { if let from = $0.baseAddress { data?.copyMemory(from: from, byteCount: $0.count) } }
    return value
  }

  /// Copies an output out of ONNX Runtime's memory.
  private func tensor(_ value: OpaquePointer?, _ spec: TensorSpec) throws -> Tensor {
    var (info, data): (OpaquePointer?, UnsafeMutableRawPointer?)
    try check(api, api.pointee.GetTensorTypeAndShape(value, &info))
    defer { api.pointee.ReleaseTensorTypeAndShapeInfo(info) }
    guard let info, try kind(ofTensor: info) == Kind(onnxTypes[spec.dtype], spec.shape.map(Int64.init)) else {
      throw OnnxError(message: "\(spec.name) is not what the manifest says")
    }
    try check(api, api.pointee.GetTensorMutableData(value, &data))
    let count = spec.shape.reduce(spec.dtype.bytes, *)
    return try Tensor(dtype: spec.dtype, shape: spec.shape, bytes: Array(UnsafeRawBufferPointer(start: data, count: count)))
  }
}

/// Calls `body` with texts as C has them.
private func withCStrings<Result>(_ texts: [String], _ body: ([UnsafePointer<CChar>?]) throws -> Result) rethrows -> Result {
  let copies = texts.map { Array($0.utf8CString) }
  func nested(_ index: Int, _ pointers: [UnsafePointer<CChar>?]) throws -> Result {
    if index == copies.count { return try body(pointers) }
    return try copies[index].withUnsafeBufferPointer { try nested(index + 1, pointers + [$0.baseAddress]) }
  }
  return try nested(0, [])
}
