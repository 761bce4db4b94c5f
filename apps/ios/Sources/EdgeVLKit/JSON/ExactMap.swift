/// A text as the key of a dictionary, compared byte by byte. Swift compares `String`s by canonical equivalence, under
/// which two different paths of a bundle, or two pieces of a vocabulary, could be the same.
struct ExactKey: Hashable, Sendable {
  let text: String

  static func == (one: ExactKey, other: ExactKey) -> Bool { one.text.isExactly(other.text) }

  func hash(into hasher: inout Hasher) {
    var text = text
    text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

/// A dictionary whose keys are texts, compared byte by byte.
public struct ExactMap<Value> {
  private var storage: [ExactKey: Value] = [:]

  public init() {}

  public var count: Int { storage.count }
  public var isEmpty: Bool { storage.isEmpty }
  public var values: [Value] { keys.compactMap { self[$0] } }

  /// The keys, in the order of their bytes.
  public var keys: [String] {
    storage.keys.map(\.text).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// The keys, in no order: quicker.
  var unordered: some Sequence<String> { storage.keys.lazy.map(\.text) }

  public subscript(key: String) -> Value? {
    get { storage[ExactKey(text: key)] }
    set { storage[ExactKey(text: key)] = newValue }
  }

  public func contains(_ key: String) -> Bool { storage[ExactKey(text: key)] != nil }

  public func mapValues<Other>(_ transform: (Value) throws -> Other) rethrows -> ExactMap<Other> {
    var result = ExactMap<Other>()
    for (key, value) in storage { result.storage[key] = try transform(value) }
    return result
  }
}

extension ExactMap: Sendable where Value: Sendable {}

extension ExactMap: Equatable where Value: Equatable {}

extension ExactMap: ExpressibleByDictionaryLiteral {
  public init(dictionaryLiteral elements: (String, Value)...) {
    for (key, value) in elements { self[key] = value }
  }
}

extension String {
  /// Compares byte by byte, not by canonical equivalence.
  func isExactly(_ other: String) -> Bool { utf8.elementsEqual(other.utf8) }

  func startsExactly(with prefix: String) -> Bool { utf8.starts(with: prefix.utf8) }

  func endsExactly(with suffix: String) -> Bool { utf8.reversed().starts(with: suffix.utf8.reversed()) }
}

extension Sequence where Element == String {
  func containsExactly(_ text: String) -> Bool { contains { $0.isExactly(text) } }
}
