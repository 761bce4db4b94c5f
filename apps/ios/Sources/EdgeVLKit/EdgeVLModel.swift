import Foundation

/// A bundle, opened: it answers queries.
///
/// Ask it from any task or actor: queries run one after another on a queue of its own, never on the caller's thread. What
/// is refused throws `EdgeVLError`; a task that is cancelled before its turn costs nothing.
public final class EdgeVLModel: Sendable {
  public let bundle: ModelBundle
  public let runtime: any Runtime
  private let sessions: [String: any Session]
  private let queue = DispatchQueue(label: "edgevl", qos: .userInitiated)

  /// Opens every program of a bundle on the calling thread; `open(at:runtime:)` does it elsewhere.
  public init(_ bundle: ModelBundle, runtime: any Runtime) throws {
    if bundle.manifest.target != runtime.target {
      try refuse(
        "the bundle is for \(bundle.manifest.target), and \(runtime.name) runs \(runtime.target): export with --target \(runtime.target)")
    }
    self.bundle = bundle
    self.runtime = runtime
    sessions = try Dictionary(bundle.manifest.programs.map { ($0.name, try runtime.open($0, of: bundle)) }) { first, _ in first }
  }

  /// Opens the bundle in a folder: hashes every file and opens every program, off the caller's thread. Do it once.
  public static func open(at folder: URL, runtime: any Runtime) async throws -> EdgeVLModel {
    try await worked(DispatchQueue.global(qos: .userInitiated)) { try EdgeVLModel(ModelBundle(at: folder), runtime: runtime) }
  }

  /// Answers one question about one picture.
  public func ask(_ picture: Picture, _ text: String) async throws -> Answer {
    try await answer(Query(pictures: [picture], texts: [text]))
  }

  /// Answers a query.
  public func answer(_ query: Query) async throws -> Answer { try await worked(queue) { try self.answered(query) } }

  /// Encodes pictures once, to ask much about them: with a bundle of the layout `split` each question is quick then.
  public func look(_ pictures: Picture...) async throws -> Look {
    try await worked(queue) {
      let query = Query(pictures: pictures, texts: [""])
      let plan = try self.plan(query)
      return Look(model: self, pictures: pictures, memory: try Evaluation(self.bundle, self.sessions, plan, query).ofPictures())
    }
  }

  /// Returns the embedding of a picture, of length 1. The bundle's decoding must be `rank`.
  public func embed(_ picture: Picture) async throws -> [Float] {
    try await row(Query(pictures: [picture]), ranking().picture)
  }

  /// Returns the embedding of a text, of length 1. The bundle's decoding must be `rank`.
  public func embed(_ text: String) async throws -> [Float] {
    try await row(Query(pictures: [], texts: [text]), ranking().text)
  }

  /// Returns the embedding of a label: the mean over the bundle's prompts, of length 1.
  public func embed(label: String) async throws -> [Float] {
    var rows: [[Float]] = []
    for text in try ranking().texts(of: label) { rows.append(try await embed(text)) }
    return normalized(rows[0].indices.map { at in rows.reduce(0) { $0 + Double($1[at]) } / Double(rows.count) })
  }

  /// Replays the golden cases of the bundle and returns how many there are: this device, this runtime, this library
  /// against the model as it was trained. An app runs it once, in a self-test. Throws naming the first case that fails.
  public func replayGolden() async throws -> Int { try await worked(queue) { try replayedGolden(self) } }

  private func ranking() throws -> Rank {
    guard let rank = bundle.decoding as? Rank else {
      try badInput("a bundle that can \(bundle.decoding.kind) has no embeddings: export one for retrieval")
    }
    return rank
  }

  private func row(_ query: Query, _ output: String) async throws -> [Float] {
    guard let row = try await answer(query).values[output]?.first else { try refuse("the artifact gives no value \(output)") }
    return row
  }

  private func plan(_ query: Query) throws -> Plan {
    var plan = Plan(bundle.manifest.programs, pictures: query.pictures.count, texts: query.texts.count)
    try bundle.decoding.fill(&plan)
    return plan
  }

  /// Answers a query on this thread. `along`: tokens that a sequence follows at every step. `memory`: what was computed
  /// for these pictures before.
  func answered(_ query: Query, along: [Int]? = nil, memory: [Int: Outputs] = [:]) throws -> Answer {
    let started = DispatchTime.now().uptimeNanoseconds
    let evaluation = Evaluation(bundle, sessions, try plan(query), query, memory: memory)
    let values = try evaluation.values(along: along)
    let decoding = bundle.decoding
    let decisions = try decoding.decide(values)
    return Answer(
      result: decisions.result, words: decoding.words(decisions.result, query.texts), margins: decisions.margins, values: values,
      shares: decoding.shares(values), runs: evaluation.runs,
      milliseconds: Double(DispatchTime.now().uptimeNanoseconds - started) / 1e6, labels: (decoding as? Classify)?.labels ?? query.texts)
  }

  fileprivate func answer(_ query: Query, memory: [Int: Outputs]) async throws -> Answer {
    try await worked(queue) { try self.answered(query, memory: memory) }
  }
}

/// Pictures that were looked at: what belongs to them alone is computed. Ask it from any task.
public struct Look: Sendable {
  fileprivate let model: EdgeVLModel
  fileprivate let pictures: [Picture]
  fileprivate let memory: [Int: Outputs]

  public func ask(_ text: String) async throws -> Answer {
    try await model.answer(Query(pictures: pictures, texts: [text]), memory: memory)
  }
}

/// Does work on a queue, unless the task is cancelled by then.
private func worked<Result: Sendable>(_ queue: DispatchQueue, _ work: @escaping @Sendable () throws -> Result) async throws -> Result {
  let cancelled = Flag()
  return try await withTaskCancellationHandler {
    try await withCheckedThrowingContinuation { continuation in
      queue.async {
        continuation.resume(with: cancelled.isSet ? .failure(CancellationError()) : Swift.Result { try work() })
      }
    }
  } onCancel: {
    cancelled.set()
  }
}

/// A flag that is set once, by any thread.
private final class Flag: @unchecked Sendable {
  private let lock = NSLock()
  private var value = false

  var isSet: Bool { lock.withLock { value } }

  func set() { lock.withLock { value = true } }
}
