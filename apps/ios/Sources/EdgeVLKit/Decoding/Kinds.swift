import Foundation

private let boxStep = 1e-5

func exponential(_ value: Double) -> Double { exp(value) }

/// The label of the largest score, for each text.
struct Classify: Decoding {
  let kind = "classify"
  let labels: [String]
  private let output: String
  private let activation: String?

  init(_ fields: JSONObject, _ manifest: Manifest, _ labels: [String]) throws {
    if labels.isEmpty { try refuse("the decoding classify needs labels, this bundle has none") }
    self.labels = labels
    output = try fields.text("output")
    activation = fields["activation"]?.text
    _ = try checkRow(manifest, output, width: labels.count)
  }

  func fill(_ plan: inout Plan) throws { try plan.readOfEachText(output) }

  func decide(_ values: Values) throws -> Decisions {
    let rows = try finiteRows(values, output)
    return Decisions(result: rows.map { .label(labels[indexOfLargest($0)]) }, margins: margins(rows))
  }

  func words(_ result: [Decision], _ texts: [String]) -> [String] {
    result.map { if case .label(let label) = $0 { return label } else { return "" } }
  }

  func shares(_ values: Values) -> [[Double]]? { (values[output] ?? []).map { EdgeVLKit.shares($0.map(Double.init), activation) } }

  func decision(_ value: JSONValue) -> Decision? { value.text.map(Decision.label) }

  func follows(_ own: Decision, _ recorded: Decision) -> Bool {
    if case (.label(let one), .label(let other)) = (own, recorded) { return one.isExactly(other) } else { return false }
  }
}

/// The number of the best text for each picture, by the product of their embeddings.
struct Rank: Decoding {
  let kind = "rank"
  let picture: String
  let text: String
  private let scale: Double
  private let bias: Double
  private let activation: String?
  /// Texts with `{}` once, where a label goes.
  private let prompts: [String]

  init(_ fields: JSONObject, _ manifest: Manifest) throws {
    picture = try fields.text("picture")
    text = try fields.text("text")
    scale = try fields.number("scale")
    bias = fields["bias"]?.number ?? 0
    activation = fields["activation"]?.text
    prompts = fields.has("prompts") ? try fields.texts("prompts") : []
    if let wrong = prompts.first(where: { $0.components(separatedBy: "{}").count != 2 }) {
      try refuse("the prompt '\(wrong)' must hold {} once")
    }
    _ = try checkRow(manifest, text, width: checkRow(manifest, picture))
  }

  func fill(_ plan: inout Plan) throws {
    for number in 0..<plan.pictures { try plan.read(picture, pictures: [number], texts: []) }
    for number in 0..<plan.texts { try plan.read(text, pictures: [], texts: [number]) }
  }

  /// Returns the product of each picture with each text.
  private func products(_ values: Values) -> [[Double]] {
    let texts = values[text] ?? []
    return texts.isEmpty ? [] : (values[picture] ?? []).map { row in texts.map { product(row, $0) } }
  }

  func decide(_ values: Values) throws -> Decisions {
    for output in values.keys { _ = try finiteRows(values, output) }
    let rows = products(values).map { $0.map(Float.init) }
    return Decisions(result: rows.map { .text(indexOfLargest($0)) }, margins: margins(rows))
  }

  func words(_ result: [Decision], _ texts: [String]) -> [String] {
    result.map { if case .text(let number) = $0, texts.indices.contains(number) { return texts[number] } else { return "" } }
  }

  func shares(_ values: Values) -> [[Double]]? {
    products(values).map { row in EdgeVLKit.shares(row.map { scale * $0 + bias }, activation) }
  }

  func decision(_ value: JSONValue) -> Decision? { value.integer.map(Decision.text) }

  /// Returns the texts whose mean embedding stands for a label: one for each prompt.
  func texts(of label: String) -> [String] {
    prompts.isEmpty ? [label] : prompts.map { $0.components(separatedBy: "{}").joined(separator: label) }
  }
}

/// Token ids of one sequence, at each step the one with the largest score, until the stop token.
struct Generate: Decoding {
  let kind = "generate"
  private let program: String
  private let output: String
  private let start: Int
  private let stop: Int
  private let steps: Int
  private let codec: any TextCodec

  init(_ fields: JSONObject, _ manifest: Manifest, _ codecs: ExactMap<any TextCodec>) throws {
    (program, output) = (try fields.text("program"), try fields.text("output"))
    (start, stop, steps) = (try fields.integer("start"), try fields.integer("stop"), try fields.integer("steps"))
    let name = fields["text"]?.text ?? "main"
    guard let codec = codecs[name] else { try refuse("the decoding generate names the text processing '\(name)', there is none") }
    self.codec = codec
    let gives = manifest.programs.first { [program] in $0.name == program }?.outputs.contains { [output] in $0.name == output } ?? false
    if !gives { try refuse("the decoding reads \(output) of the program \(program), which does not give it") }
    _ = try checkRow(manifest, output)
  }

  func fill(_ plan: inout Plan) throws {
    if plan.texts > 1 { try badInput("a query of a generated answer has one text at most: ask one after another") }
    try plan.repeating(program, output: output, start: start, stop: stop, steps: steps)
  }

  func decide(_ values: Values) throws -> Decisions {
    let rows = values[output] ?? []
    if rows.contains(where: { $0.contains(where: \.isNaN) }) { try refuse("the artifact gives scores that are no numbers") }
    return Decisions(result: rows.map { .token(indexOfLargest($0)) }, margins: margins(rows))
  }

  func words(_ result: [Decision], _ texts: [String]) -> [String] {
    let tokens = result.map { if case .token(let id) = $0 { return id } else { return stop } }
    return [codec.decode(Array(tokens.prefix { $0 != stop }))]
  }

  /// Says if the tokens are equal up to the first decision that was not clear: what follows it may differ.
  func isSame(_ own: [Decision], _ recorded: Decisions, _ least: Double) -> Bool {
    for (index, token) in recorded.result.enumerated() {
      if recorded.margins.indices.contains(index), recorded.margins[index] <= least { return true }
      if !own.indices.contains(index) || own[index] != token { return false }
    }
    return own.count == recorded.result.count
  }

  func decision(_ value: JSONValue) -> Decision? { value.integer.map(Decision.token) }
}

/// Left, top, right, bottom as shares of the sides of the square that the model sees, for each text.
struct Box: Decoding {
  let kind = "box"
  private let output: String
  private let isCenter: Bool

  init(_ fields: JSONObject, _ manifest: Manifest) throws {
    output = try fields.text("output")
    isCenter = (fields["format"]?.text ?? "center") == "center"
    _ = try checkRow(manifest, output, width: 4)
  }

  func fill(_ plan: inout Plan) throws { try plan.readOfEachText(output) }

  func decide(_ values: Values) throws -> Decisions { Decisions(result: try finiteRows(values, output).map { .box(corners($0)) }) }

  private func corners(_ row: [Float]) -> [Double] {
    let (a, b, c, d) = (Double(row[0]), Double(row[1]), Double(row[2]), Double(row[3]))
    let corners = isCenter ? [a - c / 2, b - d / 2, a + c / 2, b + d / 2] : [a, b, c, d]
    return corners.map { min(max($0, 0), 1) }
  }

  func words(_ result: [Decision], _ texts: [String]) -> [String] {
    result.map { if case .box(let sides) = $0 { return "\(sides)" } else { return "" } }
  }

  func isSame(_ own: [Decision], _ recorded: Decisions, _ least: Double) -> Bool {
    own.count == recorded.result.count && zip(own, recorded.result).allSatisfy { isNear($0, $1, least) }
  }

  func follows(_ own: Decision, _ recorded: Decision) -> Bool { isNear(own, recorded, boxStep) }

  private func isNear(_ own: Decision, _ recorded: Decision, _ least: Double) -> Bool {
    guard case (.box(let one), .box(let other)) = (own, recorded) else { return false }
    return zip(one, other).allSatisfy { abs($0 - $1) <= least }
  }

  func decision(_ value: JSONValue) -> Decision? {
    let sides = value.list?.compactMap(\.number) ?? []
    return sides.count == 4 && value.list?.count == 4 ? .box(sides) : nil
  }
}
