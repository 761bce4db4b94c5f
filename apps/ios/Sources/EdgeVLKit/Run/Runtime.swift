/// An opened artifact. It may be called from several threads at once.
public protocol Session: Sendable {
  /// Runs the program once: inputs and outputs by name, each with the batch of the program.
  func run(_ inputs: [String: Tensor]) throws -> [String: Tensor]
}

/// What runs artifacts: one library below, such as Core ML.
public protocol Runtime: Sendable {
  /// Name and version, for people.
  var name: String { get }

  /// The `target` of the bundles that it runs.
  var target: String { get }

  /// Opens one program. Throws `EdgeVLError.bundleRefused` for an artifact that is not what the manifest says.
  func open(_ program: Program, of bundle: ModelBundle) throws -> any Session
}
