private let mostValues = Double(1 << 24)
private let close = 1e-4  // of a recorded margin, beside the one that follows from the values
private let floatStep = 1e-6  // they are read as floats

/// Replays the golden cases of a model's bundle on this thread, and returns how many there are.
func replayedGolden(_ model: EdgeVLModel) throws -> Int {
  let golden = model.bundle.golden
  let tolerance = try golden.object("tolerance").mapValues { $0.number ?? 0 }
  let cases = try golden.objects("cases")
  for (number, values) in cases.enumerated() {
    try GoldenCase(model: model, values: values, name: "golden case \(number + 1)").replay(tolerance)
  }
  return cases.count
}

private struct GoldenCase {
  let model: EdgeVLModel
  let values: JSONObject
  let name: String

  private var bundle: ModelBundle { model.bundle }

  func replay(_ tolerance: ExactMap<Double>) throws {
    let pictures = try values.texts("pictures").map { try Picture(png: bundle.read($0)) }
    let texts = try values.texts("texts")
    try checkPixels(pictures)
    try checkIDs(texts)
    var stored = ExactMap<[[Float]]>()
    for output in try values.object("values").keys { stored[output] = try rows(output) }
    let recorded = try recordedDecisions(stored)
    let tokens = recorded.result.compactMap { if case .token(let id) = $0 { return id } else { return nil } }
    let along = bundle.decoding.kind == "generate" ? tokens : nil
    let own = try model.answered(Query(pictures: pictures, texts: texts), along: along)
    for output in stored.keys { try compare(output, own.values[output] ?? [], stored[output] ?? [], tolerance[output] ?? 0) }
    let least = slack * (tolerance.values.max() ?? 0)
    if !bundle.decoding.isSame(own.result, recorded, least) { try fail("the result is \(own.result), recorded is \(recorded.result)") }
  }

  private func checkPixels(_ pictures: [Picture]) throws {
    let digests = try values.object("pixels_sha256")
    let processings = bundle.manifest.imageProcessing
    for name in processings.keys {
      let own = try pictures.map { try Digest.of(processings[name]?.pixels(of: $0) ?? []) }
      if digests[name]?.list?.map({ $0.text ?? "" }) != own { try fail("other pixels than recorded, by \(name)") }
    }
  }

  private func checkIDs(_ texts: [String]) throws {
    let recorded = try values.object("input_ids")
    for name in bundle.codecs.keys {
      let own = try texts.map { JSONValue.list(try bundle.codecs[name]?.encode($0).map(JSONValue.integer) ?? []) }
      if recorded[name] != .list(own) { try fail("other token ids than recorded, by \(name)") }
    }
  }

  /// Returns the recorded result, which must follow from the recorded values.
  private func recordedDecisions(_ stored: ExactMap<[[Float]]>) throws -> Decisions {
    var lowest = Values()
    for output in stored.keys { lowest[output] = stored[output]?.map { $0.map { $0.isNaN ? -Float.greatestFiniteMagnitude : $0 } } }
    let decided = try bundle.decoding.decide(lowest)
    let result = try values.list("result").map(bundle.decoding.decision)
    let follows =
      result.count == decided.result.count
      && zip(decided.result, result).allSatisfy { own, recorded in
        recorded.map { bundle.decoding.follows(own, $0) } ?? false
      }
    if !follows { try fail("the recorded result does not follow from the recorded values") }
    let margins = try values.numbers("margins")
    let fit =
      margins.count == decided.margins.count && zip(decided.margins, margins).allSatisfy { abs($0 - $1) <= close + floatStep * abs($0) }
    if !fit { try fail("the recorded margins do not follow from the recorded values") }
    return decided
  }

  /// Returns the recorded values of an output, NaN where nothing is stored.
  private func rows(_ output: String) throws -> [[Float]] {
    let values = try self.values.object("values").object(output)
    let shape = try values.integers("shape")
    let spec = bundle.manifest.programs.flatMap(\.outputs).first { $0.name == output }
    if spec?.shape.dropFirst() != shape.dropFirst() { try fail("its values of \(output) have another shape than the program gives") }
    let size = shape.reduce(1.0) { $0 * Double($1) }
    if size > mostValues || values.has("data") == values.has("top") { try fail("its values do not fit their shape") }
    let width = Int(size) / shape[0]
    if values.has("top") { return try values.list("top").map { try topRow($0.list ?? [], width) } }
    let data = try values.numbers("data").map { Float($0) }
    if data.count != Int(size) { try fail("its values do not fit their shape") }
    return (0..<shape[0]).map { Array(data[($0 * width)..<(($0 + 1) * width)]) }
  }

  private func topRow(_ pairs: [JSONValue], _ width: Int) throws -> [Float] {
    var row = [Float](repeating: .nan, count: width)
    for pair in pairs {
      guard let index = pair.list?.first?.integer, let value = pair.list?.last?.number, row.indices.contains(index) else {
        try fail("an index of its values is beyond their shape")
      }
      row[index] = Float(value)
    }
    return row
  }

  private func compare(_ output: String, _ own: [[Float]], _ wanted: [[Float]], _ allowed: Double) throws {
    if own.map(\.count) != wanted.map(\.count) { try fail("\(output) has another shape than recorded") }
    for (row, stored) in zip(own, wanted) {
      for (value, number) in zip(row, stored) where !number.isNaN {
        let difference = abs(Double(value) - Double(number))
        if !(difference <= allowed) { try fail("\(output) differs by \(difference), at most \(allowed) is allowed") }
      }
    }
  }

  private func fail(_ what: String) throws -> Never { try refuse("\(name): \(what)") }
}
