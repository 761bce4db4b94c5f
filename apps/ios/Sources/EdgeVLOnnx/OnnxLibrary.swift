import COnnxRuntime
import EdgeVLKit
import Foundation

private let silence = "ORT_DISABLE_TELEMETRY"

/// ONNX Runtime, loaded once.
///
/// From version 1.29 on it reports usage to its maker unless `ORT_DISABLE_TELEMETRY=1` is in the environment before it is
/// loaded: so it is loaded here, and not by the linker.
final class OnnxLibrary: @unchecked Sendable {
  let api: UnsafePointer<OrtApi>
  let version: String
  let environment: OpaquePointer
  let memory: OpaquePointer

  /// Loads the library at `EDGEVL_ONNXRUNTIME`, or the system's. It stays loaded.
  static let shared = Result { try OnnxLibrary() }

  private init() throws {
    setenv(silence, "1", 1)
    let path = ProcessInfo.processInfo.environment["EDGEVL_ONNXRUNTIME"] ?? "libonnxruntime.so.1"
    guard let library = dlopen(path, RTLD_NOW | RTLD_LOCAL), let symbol = dlsym(library, "OrtGetApiBase") else {
      let why = dlerror().map { String(cString: $0) } ?? "it has no OrtGetApiBase"
      try refuse("ONNX Runtime cannot be loaded (\(why)): set EDGEVL_ONNXRUNTIME to the path of its library")
    }
    typealias Base = @convention(c) () -> UnsafePointer<OrtApiBase>?
    guard let base = unsafeBitCast(symbol, to: Base.self)(), let api = base.pointee.GetApi(UInt32(ORT_API_VERSION)) else {
      try refuse("the library at \(path) is older than version 1.\(ORT_API_VERSION) of ONNX Runtime: update it")
    }
    self.api = api
    version = base.pointee.GetVersionString().map { String(cString: $0) } ?? "of an unknown version"
    var (environment, memory): (OpaquePointer?, OpaquePointer?)
    try check(api, api.pointee.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "edgevl", &environment))
    try check(api, api.pointee.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
    guard let environment, let memory else { throw OnnxError(message: "it gives no environment") }
    (self.environment, self.memory) = (environment, memory)
  }
}

/// What ONNX Runtime says of a failure.
struct OnnxError: Error { let message: String }

/// Throws `OnnxError` if a call failed.
func check(_ api: UnsafePointer<OrtApi>, _ status: OpaquePointer?) throws {
  guard let status else { return }
  defer { api.pointee.ReleaseStatus(status) }
  throw OnnxError(message: api.pointee.GetErrorMessage(status).map { String(cString: $0) } ?? "it does not say why")
}
