/// The bytes end before what was to be read.
struct EndOfBytes: Error {}

/// Reads numbers out of bytes that may end anywhere. No index of a foreign file reaches an array unchecked.
struct ByteReader {
  let bytes: ArraySlice<UInt8>
  var isLittleEndian = false

  init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }
  init(_ bytes: [UInt8]) { self.bytes = bytes[...] }

  var count: Int { bytes.count }

  func byte(_ at: Int) throws -> Int {
    guard at >= 0, at < bytes.count else { throw EndOfBytes() }
    return Int(bytes[bytes.startIndex + at])
  }

  func number(_ at: Int, _ count: Int) throws -> Int {
    guard at >= 0, at <= bytes.count - count else { throw EndOfBytes() }
    var value = 0
    for step in 0..<count { value = value << 8 | (try byte(at + (isLittleEndian ? count - 1 - step : step))) }
    return value
  }

  /// Returns the bytes from `start` until `end`, or the end of all.
  func part(_ start: Int, _ end: Int) throws -> [UInt8] {
    guard start >= 0, start <= bytes.count, end >= start else { throw EndOfBytes() }
    return Array(bytes[(bytes.startIndex + start)..<(bytes.startIndex + min(end, bytes.count))])
  }

  func ascii(_ at: Int, _ count: Int) throws -> String {
    guard at >= 0, at <= bytes.count - count else { throw EndOfBytes() }
    return try String(String.UnicodeScalarView(part(at, at + count).map { Unicode.Scalar($0) }))
  }

  func starts(at: Int, with wanted: [UInt8]) -> Bool {
    at >= 0 && at <= bytes.count && bytes.dropFirst(at).starts(with: wanted)
  }
}
