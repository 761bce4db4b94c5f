typealias JSONObject = ExactMap<JSONValue>

/// Parsed JSON. An integer beyond 64 bits is a `large`; a number with a fraction or an exponent is a `real`.
enum JSONValue: Sendable {
  case null
  case bool(Bool)
  case integer(Int)
  case large(Double)
  case real(Double)
  case text(String)
  case list([JSONValue])
  case object(JSONObject)

  var isNull: Bool { if case .null = self { return true } else { return false } }
  var text: String? { if case .text(let value) = self { return value } else { return nil } }
  var integer: Int? { if case .integer(let value) = self { return value } else { return nil } }
  var list: [JSONValue]? { if case .list(let value) = self { return value } else { return nil } }
  var object: JSONObject? { if case .object(let value) = self { return value } else { return nil } }

  var number: Double? {
    switch self {
    case .integer(let value): return Double(value)
    case .large(let value), .real(let value): return value
    default: return nil
    }
  }

  /// The value in a message.
  var shown: String {
    switch self {
    case .null: return "null"
    case .bool(let value): return "\(value)"
    case .integer(let value): return "\(value)"
    case .large(let value), .real(let value): return "\(value)"
    case .text(let value): return "'\(value.shown)'"
    case .list: return "the list"
    case .object: return "the object"
    }
  }
}

extension JSONValue: Equatable {
  static func == (one: JSONValue, other: JSONValue) -> Bool {
    switch (one, other) {
    case (.null, .null): return true
    case (.bool(let a), .bool(let b)): return a == b
    case (.integer(let a), .integer(let b)): return a == b
    case (.large(let a), .large(let b)), (.real(let a), .real(let b)): return a == b
    case (.text(let a), .text(let b)): return a.isExactly(b)
    case (.list(let a), .list(let b)): return a == b
    case (.object(let a), .object(let b)): return a == b
    default: return false
    }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByNilLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  init(stringLiteral value: String) { self = .text(value) }
  init(integerLiteral value: Int) { self = .integer(value) }
  init(booleanLiteral value: Bool) { self = .bool(value) }
  init(nilLiteral: ()) { self = .null }
  init(arrayLiteral elements: JSONValue...) { self = .list(elements) }

  init(dictionaryLiteral elements: (String, JSONValue)...) {
    var object = JSONObject()
    for (key, value) in elements { object[key] = value }
    self = .object(object)
  }
}

/// Reads fields that a schema has checked; one that is not there after all refuses the bundle, never the app.
extension ExactMap where Value == JSONValue {
  private func field<Kind>(_ key: String, _ read: (JSONValue) -> Kind?) throws -> Kind {
    guard let value = self[key].flatMap(read) else { try refuse("the field \(key) is missing, or of another type") }
    return value
  }

  func text(_ key: String) throws -> String { try field(key, \.text) }
  func integer(_ key: String) throws -> Int { try field(key, \.integer) }
  func number(_ key: String) throws -> Double { try field(key, \.number) }
  func list(_ key: String) throws -> [JSONValue] { try field(key, \.list) }
  func object(_ key: String) throws -> JSONObject { try field(key, \.object) }
  func objects(_ key: String) throws -> [JSONObject] { try list(key).map { try unwrapped($0.object, key) } }
  func integers(_ key: String) throws -> [Int] { try list(key).map { try unwrapped($0.integer, key) } }
  func numbers(_ key: String) throws -> [Double] { try list(key).map { try unwrapped($0.number, key) } }
  func texts(_ key: String) throws -> [String] { try list(key).map { try unwrapped($0.text, key) } }

  /// Is there a value that is not null?
  func has(_ key: String) -> Bool { !(self[key]?.isNull ?? true) }

  private func unwrapped<Kind>(_ value: Kind?, _ key: String) throws -> Kind {
    guard let value else { try refuse("the field \(key) holds a value of another type") }
    return value
  }
}
