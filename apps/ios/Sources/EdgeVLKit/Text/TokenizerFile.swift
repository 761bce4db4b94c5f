/// What a tokenizer.json says, held against the only settings that docs/bundle.md gives steps for.
indirect enum Wanted: Sendable {
  case value(JSONValue)
  case anything
  /// One of several; with `orMissing` the field may be left out.
  case oneOf([Wanted], orMissing: Bool = false)
  case list([Wanted])
  case object([String: Wanted])

  var mayBeMissing: Bool {
    if case .oneOf(_, true) = self { return true } else if case .anything = self { return true } else { return false }
  }

  func fits(_ own: JSONValue) -> Bool {
    switch self {
    case .anything: return true
    case .value(let value): return own == value
    case .oneOf(let all, _): return all.contains { $0.fits(own) }
    case .list(let all):
      guard let items = own.list else { return false }
      return items.count == all.count && zip(all, items).allSatisfy { $0.fits($1) }
    case .object(let all): return own.object.map { fieldProblem($0, all, "") == nil } ?? false
    }
  }
}

extension Wanted: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByNilLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByDictionaryLiteral
{
  init(stringLiteral value: String) { self = .value(.text(value)) }
  init(booleanLiteral value: Bool) { self = .value(.bool(value)) }
  init(integerLiteral value: Int) { self = .value(.integer(value)) }
  init(nilLiteral: ()) { self = .value(.null) }
  init(dictionaryLiteral elements: (String, Wanted)...) { self = .object(Dictionary(elements) { first, _ in first }) }
}

let maxPieces = 1 << 20

/// Says which field is not what it must be; nil if an object has the wanted fields and no others.
private func fieldProblem(_ own: JSONObject, _ wanted: [String: Wanted], _ place: String) -> String? {
  for key in own.keys {
    guard let limit = wanted.first(where: { $0.key.isExactly(key) })?.value else {
      return "it has the field \(place)\(key.shown), which is not known"
    }
    if let value = own[key], !limit.fits(value) { return "\(place)\(key) is \(value.shown), which is no setting of its kind" }
  }
  let missing = wanted.first { !own.contains($0.key) && !$0.value.mayBeMissing }
  return missing.map { "\(place)\($0.key) is missing" }
}

/// Throws `WrongTokenizer` unless `own` has the wanted fields and no others, each with such a value; `ignored` ones are not compared.
func compare(_ own: JSONObject, _ wanted: [String: Wanted], ignoring ignored: [String] = [], _ place: String = "") throws {
  var compared = own
  for key in ignored { compared[key] = nil }
  if let problem = fieldProblem(compared, wanted, place) { throw WrongTokenizer(message: problem) }
}

func tokenizerObject(_ value: JSONValue?, _ what: String) throws -> JSONObject {
  guard let object = value?.object else { throw WrongTokenizer(message: "\(what) is no object") }
  return object
}

/// Returns the vocabulary of a model: pieces to the numbers from 0, each once.
func vocabulary(_ value: JSONValue?) throws -> (ids: ExactMap<Int>, pieces: [String]) {
  let values = try tokenizerObject(value, "model.vocab")
  guard (1...maxPieces).contains(values.count) else { throw WrongTokenizer(message: "model.vocab must have 1 to \(maxPieces) pieces") }
  var pieces = [String?](repeating: nil, count: values.count)
  for piece in values.unordered {
    guard let id = values[piece]?.integer, pieces.indices.contains(id), pieces[id] == nil else {
      throw WrongTokenizer(message: "the ids of model.vocab must be the numbers from 0, each once")
    }
    pieces[id] = piece
  }
  return (values.mapValues { $0.integer ?? 0 }, pieces.compactMap { $0 })
}

/// Throws `WrongTokenizer` where the manifest says something else than the file.
func compareSpec(_ spec: TextProcessing, _ pairs: [(name: String, own: Int?, file: Int?)]) throws {
  for (name, own, file) in pairs where own != file {
    let (said, has) = (own.map(String.init) ?? "null", file.map(String.init) ?? "null")
    throw WrongTokenizer(message: "\(name) of the manifest is \(said), \(spec.file) has \(has)")
  }
}
