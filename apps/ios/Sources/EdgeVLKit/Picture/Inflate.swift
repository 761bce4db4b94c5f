/// Why data cannot be inflated.
struct DamagedData: Error { let message: String }

/// Inflates a zlib stream (RFC 1950, 1951) until `limit` bytes are there or it ends. Where there is more, or what follows
/// is damaged, nobody asks. Throws `EndOfBytes` where the data end early, `DamagedData` where they are none.
func inflated(_ data: [UInt8], limit: Int) throws -> [UInt8] {
  guard data.count >= 2 else { throw EndOfBytes() }
  let isZlib = data[0] & 15 == 8 && data[0] >> 4 <= 7 && (Int(data[0]) << 8 | Int(data[1])) % 31 == 0 && data[1] & 32 == 0
  if !isZlib { throw DamagedData(message: "its data are not zlib's") }
  var inflater = Inflater(data, limit)
  try inflater.run()
  return inflater.out
}

private struct Inflater {
  private let data: [UInt8]
  private let limit: Int
  private var at = 2
  /// Bits of the bytes before `at` that nobody took yet, the first of them lowest.
  private var held: UInt64 = 0
  private var bits = 0
  private(set) var out: [UInt8] = []

  init(_ data: [UInt8], _ limit: Int) {
    self.data = data
    self.limit = limit
  }

  private var isFull: Bool { out.count >= limit }

  mutating func run() throws {
    while !isFull {
      let isLast = try take(1) == 1
      switch try take(2) {
      case 0: try stored()
      case 1: try coded(Codes(fixedLengths), Codes([UInt8](repeating: 5, count: 32)))
      case 2: try dynamic()
      default: throw DamagedData(message: "a block of an unknown kind")
      }
      if isLast { return }
    }
  }

  private mutating func take(_ count: Int) throws -> Int {
    if bits < count { hold() }
    guard bits >= count else { throw EndOfBytes() }
    let value = held & ((1 << count) - 1)
    held >>= UInt64(count)
    bits -= count
    return Int(value)
  }

  /// Holds as many bits as there is place for.
  private mutating func hold() {
    while bits <= 56 && at < data.count {
      held |= UInt64(data[at]) << bits
      at += 1
      bits += 8
    }
  }

  /// Gives back the whole bytes that are held, and drops the bits of the one that was begun.
  private mutating func toNextByte() {
    at -= bits / 8
    held = 0
    bits = 0
  }

  private mutating func stored() throws {
    toNextByte()
    let (low, high) = (try take(16), try take(16))
    toNextByte()
    if low != high ^ 0xFFFF { throw DamagedData(message: "the length of a block") }
    let count = min(low, limit - out.count)
    guard at + count <= data.count else { throw EndOfBytes() }
    out += data[at..<at + count]
    at += low
  }

  private mutating func dynamic() throws {
    let (literals, distances) = (try take(5) + 257, try take(5) + 1)
    var lengths = [UInt8](repeating: 0, count: 19)
    for index in 0..<(try take(4) + 4) { lengths[orderOfLengths[index]] = UInt8(try take(3)) }
    if literals > 286 || distances > 30 { throw DamagedData(message: "too many codes") }
    let all = try lengthsOfCodes(Codes(lengths), literals + distances)
    if all[256] == 0 { throw DamagedData(message: "no code for the end") }
    try coded(Codes(Array(all[..<literals])), Codes(Array(all[literals...])))
  }

  private mutating func lengthsOfCodes(_ codes: Codes, _ count: Int) throws -> [UInt8] {
    var lengths: [UInt8] = []
    while lengths.count < count {
      let symbol = try self.symbol(codes)
      if symbol < 16 {
        lengths.append(UInt8(symbol))
        continue
      }
      if symbol == 16 && lengths.isEmpty { throw DamagedData(message: "nothing to repeat") }
      let value = symbol == 16 ? lengths[lengths.count - 1] : 0
      let times = symbol == 16 ? 3 + (try take(2)) : symbol == 17 ? 3 + (try take(3)) : 11 + (try take(7))
      lengths += [UInt8](repeating: value, count: times)
    }
    if lengths.count > count { throw DamagedData(message: "more lengths than codes") }
    return lengths
  }

  private mutating func coded(_ literals: Codes, _ distances: Codes) throws {
    while !isFull {
      let symbol = try self.symbol(literals)
      if symbol < 256 {
        out.append(UInt8(symbol))
      } else if symbol == 256 {
        return
      } else {
        try copy(symbol, distances)
      }
    }
  }

  private mutating func copy(_ symbol: Int, _ distances: Codes) throws {
    guard symbol - 257 < lengthBases.count else { throw DamagedData(message: "an unknown length") }
    let length = lengthBases[symbol - 257] + (try take(lengthBits[symbol - 257]))
    let code = try self.symbol(distances)
    guard code < distanceBases.count else { throw DamagedData(message: "an unknown distance") }
    let distance = distanceBases[code] + (try take(code < 4 ? 0 : code / 2 - 1))
    guard distance <= out.count else { throw DamagedData(message: "a distance beyond its beginning") }
    for _ in 0..<min(length, limit - out.count) { out.append(out[out.count - distance]) }
  }

  private mutating func symbol(_ codes: Codes) throws -> Int {
    if bits < 15 { hold() }
    let entry = codes.short[Int(held & (1 << Codes.shortBits - 1))]
    let length = Int(entry & 15)
    if length == 0 || length > bits { return try longSymbol(codes) }
    held >>= UInt64(length)
    bits -= length
    return Int(entry >> 4)
  }

  /// Reads a code bit by bit: one of more bits than the table of short ones has, or the last of data that end early.
  private mutating func longSymbol(_ codes: Codes) throws -> Int {
    var (code, first, index) = (0, 0, 0)
    for length in 1...15 {
      code |= try take(1)
      let count = codes.counts[length]
      if code - count < first { return codes.symbols[index + code - first] }
      index += count
      first = (first + count) << 1
      code <<= 1
    }
    throw DamagedData(message: "an unknown code")
  }
}

/// Canonical Huffman codes: how many there are of each length, and their symbols in order.
private struct Codes {
  static let shortBits = 10
  /// For each sequence of so many bits the symbol whose code it begins with, above the length of that code in four bits;
  /// 0 where the code is longer.
  private(set) var short = [UInt16](repeating: 0, count: 1 << shortBits)
  private(set) var counts = [Int](repeating: 0, count: 16)
  private(set) var symbols: [Int]

  init(_ lengths: [UInt8]) throws {
    for length in lengths { counts[Int(length)] += 1 }
    let used = lengths.count - counts[0]
    counts[0] = 0
    var free = 1
    for length in 1...15 {
      free = 2 * free - counts[length]
      if free < 0 { throw DamagedData(message: "more codes than there can be") }
    }
    if free > 0 && used > 1 { throw DamagedData(message: "fewer codes than there must be") }
    symbols = (1...15).flatMap { length in lengths.indices.filter { Int(lengths[$0]) == length } }
    var (code, index) = (0, 0)
    for length in 1...Codes.shortBits {
      for symbol in symbols[index..<index + counts[length]] {
        let first = (0..<length).reduce(0) { $0 | (code >> $1 & 1) << (length - 1 - $1) }  // the first bit of a code is its highest
        for place in stride(from: first, to: short.count, by: 1 << length) { short[place] = UInt16(symbol << 4 | length) }
        code += 1
      }
      index += counts[length]
      code <<= 1
    }
  }
}

private let orderOfLengths = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
private let lengthBases = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
]
private let lengthBits = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0]
private let distanceBases = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289,
  16385, 24577,
]
private let fixedLengths =
  [UInt8](repeating: 8, count: 144) + [UInt8](repeating: 9, count: 112) + [UInt8](repeating: 7, count: 24)
  + [UInt8](repeating: 8, count: 8)
