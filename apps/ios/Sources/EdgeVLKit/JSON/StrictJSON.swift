import Foundation

/// What is wrong with a text, as the end of a sentence that begins with the name of its file.
struct Unreadable: Error { let message: String }

private let maxDepth = 32

/// Parses JSON strictly: UTF-8 without a byte order mark, no NaN, no number beyond a double, no half a surrogate pair,
/// no key twice, at most 32 levels. Throws `Unreadable`.
func strictJSON(_ bytes: [UInt8]) throws -> JSONValue {
  guard isUTF8(bytes) else { throw Unreadable(message: "is not UTF-8 text") }
  var parser = Parser(bytes: bytes)
  return try parser.parse()
}

private func isUTF8(_ bytes: [UInt8]) -> Bool {
  var decoder = UTF8()
  var iterator = bytes.makeIterator()
  while true {
    switch decoder.decode(&iterator) {
    case .scalarValue: continue
    case .emptyInput: return true
    case .error: return false
    }
  }
}

private struct Parser {
  let bytes: [UInt8]
  var at = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func parse() throws -> JSONValue {
    let value = try value(0)
    skipBlanks()
    if at < bytes.count { try fail("there is more behind the value") }
    return value
  }

  private mutating func value(_ depth: Int) throws -> JSONValue {
    skipBlanks()
    switch try peek() {
    case UInt8(ascii: "{"): return try object(depth)
    case UInt8(ascii: "["): return try list(depth)
    case UInt8(ascii: "\""): return .text(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return try number()
    }
  }

  private mutating func object(_ depth: Int) throws -> JSONValue {
    var values = JSONObject()
    try entries(UInt8(ascii: "}"), depth) { parser in
      if try parser.peek() != UInt8(ascii: "\"") { try parser.fail("a key must be a text") }
      let key = try parser.string()
      parser.skipBlanks()
      try parser.expect(":")
      if values.contains(key) { try parser.fail("a key occurs twice") }
      values[key] = try parser.value(depth + 1)
    }
    return .object(values)
  }

  private mutating func list(_ depth: Int) throws -> JSONValue {
    var values: [JSONValue] = []
    try entries(UInt8(ascii: "]"), depth) { values.append(try $0.value(depth + 1)) }
    return .list(values)
  }

  /// Reads what stands between brackets, with commas.
  private mutating func entries(_ end: UInt8, _ depth: Int, _ entry: (inout Parser) throws -> Void) throws {
    if depth == maxDepth { try fail("more than \(maxDepth) levels") }
    at += 1
    skipBlanks()
    if try peek() == end {
      at += 1
      return
    }
    while true {
      skipBlanks()
      try entry(&self)
      skipBlanks()
      if try peek() == end { break }
      try expect(",")
    }
    at += 1
  }

  private mutating func string() throws -> String {
    at += 1
    var found: [UInt8] = []
    while true {
      let byte = try next()
      switch byte {
      case UInt8(ascii: "\""): return String(decoding: found, as: UTF8.self)
      case UInt8(ascii: "\\"): found.append(contentsOf: try escaped())
      case 0..<0x20: try fail("a control character in a text")
      default: found.append(byte)
      }
    }
  }

  /// Returns the bytes of an escape in UTF-8.
  private mutating func escaped() throws -> [UInt8] {
    switch try next() {
    case UInt8(ascii: "\""): return [0x22]
    case UInt8(ascii: "\\"): return [0x5C]
    case UInt8(ascii: "/"): return [0x2F]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"): return Array(String(Character(try scalar())).utf8)
    default: try fail("an escape that JSON does not have")
    }
  }

  /// Reads a code point behind `\u`: of two escapes, where the first is half a surrogate pair.
  private mutating func scalar() throws -> Unicode.Scalar {
    let first = try hexadecimal()
    if let scalar = Unicode.Scalar(first) { return scalar }
    let isPair = first < 0xDC00 && at + 1 < bytes.count && bytes[at] == 0x5C && bytes[at + 1] == UInt8(ascii: "u")
    if !isPair { try fail("half a surrogate pair") }
    at += 2
    let second = try hexadecimal()
    if !(0xDC00...0xDFFF).contains(second) { try fail("half a surrogate pair") }
    guard let scalar = Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)) else {
      try fail("half a surrogate pair")
    }
    return scalar
  }

  private mutating func hexadecimal() throws -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = hexadecimalDigit(try next()) else { try fail("an escape that JSON does not have") }
      code = code * 16 + UInt32(digit)
    }
    return code
  }

  private mutating func number() throws -> JSONValue {
    let start = at
    if at < bytes.count, bytes[at] == UInt8(ascii: "-") { at += 1 }
    let first = at
    skipDigits()
    let isLong = at - first > 1
    if at == first || (isLong && bytes[first] == UInt8(ascii: "0")) { try fail("no value of JSON") }
    let isWhole = try !(fraction()) && !(try exponent())
    return try converted(String(decoding: bytes[start..<at], as: UTF8.self), isWhole)
  }

  private mutating func fraction() throws -> Bool {
    guard at < bytes.count, bytes[at] == UInt8(ascii: ".") else { return false }
    at += 1
    let first = at
    skipDigits()
    if at == first { try fail("no value of JSON") }
    _ = try exponent()
    return true
  }

  private mutating func exponent() throws -> Bool {
    guard at < bytes.count, bytes[at] | 0x20 == UInt8(ascii: "e") else { return false }
    at += 1
    if at < bytes.count, [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[at]) { at += 1 }
    let first = at
    skipDigits()
    if at == first { try fail("no value of JSON") }
    return true
  }

  private func converted(_ digits: String, _ isWhole: Bool) throws -> JSONValue {
    if isWhole, let value = Int(digits) { return .integer(value) }
    guard let value = Double(digits), value.isFinite else { try fail("a number beyond a double") }
    return isWhole ? .large(value) : .real(value)
  }

  private mutating func word(_ word: String, _ value: JSONValue) throws -> JSONValue {
    guard bytes[at...].starts(with: word.utf8) else { try fail("no value of JSON") }
    at += word.utf8.count
    return value
  }

  private mutating func skipDigits() {
    while at < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[at]) { at += 1 }
  }

  private mutating func skipBlanks() {
    while at < bytes.count, isBlank(bytes[at]) { at += 1 }
  }

  private func peek() throws -> UInt8 {
    if at >= bytes.count { try fail("it ends too early") }
    return bytes[at]
  }

  private mutating func next() throws -> UInt8 {
    let byte = try peek()
    at += 1
    return byte
  }

  private mutating func expect(_ byte: Unicode.Scalar) throws {
    if try next() != UInt8(ascii: byte) { try fail("'\(byte)' is missing") }
  }

  private func fail(_ what: String) throws -> Never { throw Unreadable(message: "\(what) (byte \(at))") }
}

private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }

func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): return byte - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): return byte - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): return byte - UInt8(ascii: "A") + 10
  default: return nil
  }
}
