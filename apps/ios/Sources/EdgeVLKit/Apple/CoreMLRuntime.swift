#if canImport(CoreML)
  import CoreML
  import Foundation

  /// Core ML: processor, GPU and Neural Engine.
  ///
  /// A package is compiled once on each device and version of the system, and kept among the app's caches. Opening a
  /// program runs it once, so that the first question is not the slow one.
  public struct CoreMLRuntime: Runtime {
    public let name = "Core ML, \(ProcessInfo.processInfo.operatingSystemVersionString)"
    public let target = "coreml"
    private let computeUnits: MLComputeUnits?
    private let cache: URL

    /// `computeUnits`: nil picks them by the precision of the program: a program of fp32 does not run on the Neural
    /// Engine, and is not offered to it. `cache`: the folder of compiled packages; nil is `EdgeVL` among the app's caches.
    public init(computeUnits: MLComputeUnits? = nil, cache: URL? = nil) throws {
      self.computeUnits = computeUnits
      let caches = try FileManager.default.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
      self.cache = cache ?? caches.appendingPathComponent("EdgeVL", isDirectory: true)
    }

    public func open(_ program: Program, of bundle: ModelBundle) throws -> any Session {
      let configuration = MLModelConfiguration()
      configuration.computeUnits = computeUnits ?? (program.precision == "fp32" ? .cpuAndGPU : .all)
      do {
        let session = CoreMLSession(try model(program, bundle, configuration), program)
        try session.checkInterface()
        try session.warmUp()
        return session
      } catch let error where !(error is EdgeVLError) {
        try refuse("\(name), refuses \(program.artifact): \(error.localizedDescription)")
      }
    }

    /// Returns the compiled model, from the cache where it is there and can be read.
    private func model(_ program: Program, _ bundle: ModelBundle, _ configuration: MLModelConfiguration) throws -> MLModel {
      let paths = bundle.manifest.files.keys.filter { isInside($0, program.artifact) }
      let known = paths.map { "\($0) \(bundle.manifest.files[$0]?.sha256 ?? "")" } + [name]
      let place = cache.appendingPathComponent(Digest.of(Array(known.joined(separator: "\n").utf8)) + ".mlmodelc", isDirectory: true)
      if let model = try? MLModel(contentsOf: place, configuration: configuration) { return model }
      try? FileManager.default.removeItem(at: place)
      try FileManager.default.createDirectory(at: cache, withIntermediateDirectories: true)
      let compiled = try compiled(paths, program, bundle)
      do {
        try FileManager.default.moveItem(at: compiled, to: place)
      } catch  where FileManager.default.fileExists(atPath: place.path) {
        try? FileManager.default.removeItem(at: compiled)  // another task was quicker
      }
      return try MLModel(contentsOf: place, configuration: configuration)
    }

    /// Compiles a private copy of the package, of which every byte was compared with its digest.
    private func compiled(_ paths: [String], _ program: Program, _ bundle: ModelBundle) throws -> URL {
      let files = FileManager.default
      let folder = files.temporaryDirectory.appendingPathComponent(UUID().uuidString, isDirectory: true)
      defer { try? files.removeItem(at: folder) }
      for path in paths {
        let file = folder.appendingPathComponent(path)
        try files.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bundle.read(path)).write(to: file)
      }
      return try MLModel.compileModel(at: folder.appendingPathComponent(program.artifact))
    }
  }
#endif
