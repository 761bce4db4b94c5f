let slack = 2.0  // a decision whose margin is below so many tolerances is not compared

/// One decision of an answer.
public enum Decision: Equatable, Sendable {
  case label(String)
  /// The number of a text of the query.
  case text(Int)
  case token(Int)
  /// Left, top, right, bottom as shares of the square that the model sees.
  case box([Double])
}

/// What values say. `margins`: how far each decision was from another one; none of boxes and of rows with one number.
struct Decisions: Sendable {
  let result: [Decision]
  var margins: [Double] = []
}

/// A kind of decoding: which values of a query are read, and what they say. It knows no task.
protocol Decoding: Sendable {
  /// The word of the manifest.
  var kind: String { get }

  /// Plans what is read for a query.
  func fill(_ plan: inout Plan) throws

  /// Returns what values say. Throws for such as no artifact may give.
  func decide(_ values: Values) throws -> Decisions

  /// Returns a result in words. `texts` are the query's.
  func words(_ result: [Decision], _ texts: [String]) -> [String]

  /// Returns each row of scores as shares, after the activation; nil where there are no scores of choices.
  func shares(_ values: Values) -> [[Double]]?

  /// Says if results are equal wherever the recorded decision was clear: by more than `least`.
  func isSame(_ own: [Decision], _ recorded: Decisions, _ least: Double) -> Bool

  /// Returns a decision of the JSON of golden cases; nil if it is none of this kind.
  func decision(_ value: JSONValue) -> Decision?

  /// Says if a recorded decision is the one that follows from the recorded values.
  func follows(_ own: Decision, _ recorded: Decision) -> Bool
}

extension Decoding {
  func shares(_ values: Values) -> [[Double]]? { nil }

  func follows(_ own: Decision, _ recorded: Decision) -> Bool { own == recorded }

  func isSame(_ own: [Decision], _ recorded: Decisions, _ least: Double) -> Bool {
    if own.count != recorded.result.count { return false }
    return own.indices.allSatisfy {
      own[$0] == recorded.result[$0] || (recorded.margins.indices.contains($0) && recorded.margins[$0] <= least)
    }
  }
}

/// Returns the decoding of a manifest. Refuses one that does not fit the rest of the bundle.
func openDecoding(_ manifest: Manifest, _ labels: [String]?, _ codecs: ExactMap<any TextCodec>) throws -> any Decoding {
  let fields = manifest.decoding
  switch try fields.text("kind") {
  case "classify": return try Classify(fields, manifest, labels ?? [])
  case "rank": return try Rank(fields, manifest)
  case "generate": return try Generate(fields, manifest, codecs)
  default: return try Box(fields, manifest)
  }
}

/// Refuses an output that is not float [B, N], where N is `width` if given. Returns N.
func checkRow(_ manifest: Manifest, _ name: String, width: Int? = nil) throws -> Int {
  guard let spec = manifest.programs.flatMap(\.outputs).first(where: { $0.name == name }) else {
    try refuse("the decoding reads the value \(name), which no program gives")
  }
  let fits = spec.shape.count == 2 && spec.dtype.isFloat && (width == nil || spec.shape[1] == width)
  if !fits {
    try refuse("the decoding reads \(name) as float [B, \(width.map(String.init) ?? "N")], it is \(spec.dtype.rawValue) \(spec.shape)")
  }
  return spec.shape[1]
}

/// Returns the rows of an output, which must be finite.
func finiteRows(_ values: Values, _ output: String) throws -> [[Float]] {
  let rows = values[output] ?? []
  if !rows.allSatisfy({ $0.allSatisfy(\.isFinite) }) { try refuse("the artifact gives values of \(output) that are no finite numbers") }
  return rows
}

/// Returns by how much the best score of each row leads; nothing where a row has one score only.
func margins(_ rows: [[Float]]) -> [Double] {
  if (rows.first?.count ?? 0) < 2 { return [] }
  return rows.map { row in
    var (first, second) = (-Double.infinity, -Double.infinity)
    for value in row {
      second = max(second, min(first, Double(value)))
      first = max(first, Double(value))
    }
    return first - second
  }
}

/// Returns scores as shares. Neither activation changes their order.
func shares(_ scores: [Double], _ activation: String?) -> [Double] {
  if activation == "sigmoid" { return scores.map { 1 / (1 + exponential(-$0)) } }
  let largest = scores.max() ?? 0
  let powers = scores.map { exponential($0 - largest) }
  let total = powers.reduce(0, +)
  return powers.map { $0 / total }
}

/// Returns the product of two embeddings.
func product(_ one: [Float], _ other: [Float]) -> Double { zip(one, other).reduce(0) { $0 + Double($1.0) * Double($1.1) } }

/// Returns a row divided by its length.
func normalized(_ row: [Double]) -> [Float] {
  let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
  return row.map { Float($0 / length) }
}
