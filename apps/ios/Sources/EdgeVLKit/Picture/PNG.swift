private enum Color: Int {
  case gray = 0
  case rgb = 2
  case palette = 3
  case grayAlpha = 4
  case rgba = 6

  var channels: Int { [.gray: 1, .rgb: 3, .palette: 1, .grayAlpha: 2, .rgba: 4][self] ?? 1 }

  var depths: [Int] {
    switch self {
    case .gray: return [1, 2, 4, 8, 16]
    case .palette: return [1, 2, 4, 8]
    default: return [8, 16]
    }
  }
}

/// First column, first row, and steps of the passes of Adam7.
private let adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]

extension Picture {
  /// Reads a PNG of any color type and depth as docs/bundle.md says, upright on white.
  ///
  /// Platforms convert colors, gray of 16 bits and transparency each in its own way; this does what the contract says.
  public init(png file: [UInt8]) throws {
    do {
      let png = try PNG(file)
      self.init(upright: try png.rgb(), png.width, png.height, exifOrientation(of: file))
    } catch is EndOfBytes {
      try badInput("the picture is truncated: save it again")
    } catch let error as DamagedData {
      try badInput("the picture is damaged (\(error.message)): save it again")
    }
  }
}

private struct PNG {
  let width: Int
  let height: Int
  private let file: [UInt8]
  private let chunks: [Chunk]
  private let depth: Int
  private let color: Color
  private let isInterlaced: Bool
  private let palette: [UInt8]
  private let transparent: [UInt8]?
  private let key: [Int]?

  init(_ file: [UInt8]) throws {
    if !isPNG(file) { throw DamagedData(message: "it is no PNG") }
    self.file = file
    chunks = try pngChunks(file)
    let head = try counted(file, chunks)
    guard let header = head["IHDR"], header.count == 13 else { throw DamagedData(message: "it has no header") }
    let reader = ByteReader(header)
    (width, height) = (try reader.number(0, 4), try reader.number(4, 4))
    depth = Int(header[8])
    guard let color = Color(rawValue: Int(header[9])) else { throw DamagedData(message: "an unknown color type") }
    if !color.depths.contains(depth) || header[10] != 0 || header[11] != 0 || header[12] > 1 { throw DamagedData(message: "its header") }
    try checkSize(width, height)
    self.color = color
    isInterlaced = header[12] == 1
    palette = head["PLTE"] ?? []
    let isWhole = !palette.isEmpty && palette.count % 3 == 0 && palette.count <= 768
    if color == .palette && !isWhole { throw DamagedData(message: "its palette") }
    transparent = head["tRNS"]
    let top = (1 << depth) - 1
    let hasKey = transparent != nil && (color == .gray || color == .rgb)
    if hasKey, transparent?.count != 2 * color.channels { throw DamagedData(message: "its transparent color has another length") }
    let given = ByteReader(transparent ?? [])
    key = hasKey ? try (0..<color.channels).map { try given.number(2 * $0, 2) & top } : nil
  }

  func rgb() throws -> [UInt8] {
    let passes = isInterlaced ? adam7 : [(0, 0, 1, 1)]
    let sizes = passes.map { (left, above, right, down) in ((width - left + right - 1) / right, (height - above + down - 1) / down) }
    let total = sizes.reduce(0) { $0 + ($1.0 < 1 ? 0 : max($1.1, 0) * (1 + lineLength($1.0))) }
    let data = try inflated(pixels(), limit: total)
    var lines = Lines(data: data, distance: max(1, color.channels * depth / 8))
    var rgb = [UInt8](repeating: 0, count: 3 * width * height)
    for ((left, above, right, down), (columns, rows)) in zip(passes, sizes) where columns > 0 && rows > 0 {
      lines.begin(lineLength(columns))
      for row in 0..<rows {
        try lines.next()
        if isPlain {
          rgb.replaceSubrange(3 * row * width..<3 * (row + 1) * width, with: lines.line)
          continue
        }
        for column in 0..<columns { put(&rgb, 3 * ((above + row * down) * width + left + column * right), lines.line, column) }
      }
    }
    return rgb
  }

  /// Are its lines the RGB of the picture?
  private var isPlain: Bool { color == .rgb && depth == 8 && key == nil && !isInterlaced }

  private func lineLength(_ columns: Int) -> Int { (columns * color.channels * depth + 7) / 8 }

  /// The content of the first run of IDAT chunks.
  private func pixels() throws -> [UInt8] {
    let run = chunks.drop { $0.kind != "IDAT" }.prefix { $0.kind == "IDAT" }
    if run.isEmpty { throw DamagedData(message: "it has no pixels") }
    return try run.reduce(into: []) { $0 += try checked(file, $1) }
  }

  private func sample(_ line: [UInt8], _ number: Int) -> Int {
    switch depth {
    case 16: return Int(line[2 * number]) << 8 | Int(line[2 * number + 1])
    case 8: return Int(line[number])
    default:
      let bit = number * depth
      return Int(line[bit / 8]) >> (8 - depth - bit % 8) & ((1 << depth) - 1)
    }
  }

  private func put(_ rgb: inout [UInt8], _ at: Int, _ line: [UInt8], _ column: Int) {
    let from = column * color.channels
    let first = sample(line, from)
    switch color {
    case .palette: putIndex(&rgb, at, first)
    case .gray, .grayAlpha:
      let gray = depth == 16 ? grayOf16Bits(first) : spread(first)
      putOnWhite(&rgb, at, gray, gray, gray, alpha(line, from))
    case .rgb, .rgba:
      putOnWhite(&rgb, at, high(first), high(sample(line, from + 1)), high(sample(line, from + 2)), alpha(line, from))
    }
  }

  private func alpha(_ line: [UInt8], _ from: Int) -> UInt8 {
    if color == .grayAlpha || color == .rgba { return high(sample(line, from + color.channels - 1)) }
    guard let key else { return 255 }
    let isTransparent = key.indices.allSatisfy { key[$0] == sample(line, from + $0) }
    return isTransparent ? 0 : 255
  }

  private func putIndex(_ rgb: inout [UInt8], _ at: Int, _ index: Int) {
    let alpha = transparent.map { index < $0.count ? $0[index] : 255 } ?? 255
    func entry(_ channel: Int) -> UInt8 { 3 * index < palette.count ? palette[3 * index + channel] : 0 }
    putOnWhite(&rgb, at, entry(0), entry(1), entry(2), alpha)
  }

  private func high(_ value: Int) -> UInt8 { UInt8(truncatingIfNeeded: depth == 16 ? value >> 8 : value) }

  private func spread(_ value: Int) -> UInt8 {
    let top = (1 << depth) - 1
    return UInt8(truncatingIfNeeded: (2 * value * 255 + top) / (2 * top))
  }
}

@inline(__always)
private func putOnWhite(_ rgb: inout [UInt8], _ at: Int, _ red: UInt8, _ green: UInt8, _ blue: UInt8, _ alpha: UInt8) {
  rgb[at] = onWhite(red, alpha)
  rgb[at + 1] = onWhite(green, alpha)
  rgb[at + 2] = onWhite(blue, alpha)
}

/// Returns what counts of the file: header, palette and transparency before the first pixels.
private func counted(_ file: [UInt8], _ chunks: [Chunk]) throws -> [String: [UInt8]] {
  var found: [String: [UInt8]] = [:]
  for chunk in chunks {
    if chunk.kind == "IDAT" || chunk.kind == "IEND" { break }
    if ["IHDR", "PLTE", "tRNS"].contains(chunk.kind) { found[chunk.kind] = try checked(file, chunk) }
  }
  return found
}

/// Returns the content of a chunk whose checksum fits.
private func checked(_ file: [UInt8], _ chunk: Chunk) throws -> [UInt8] {
  if chunk.end > file.count - 4 { throw EndOfBytes() }
  let reader = ByteReader(file)
  let checksum = checksum(file[(chunk.start - 4)..<chunk.end])
  if try reader.number(chunk.end, 4) != Int(checksum) { throw DamagedData(message: "the checksum of its chunk \(chunk.kind)") }
  return try reader.part(chunk.start, chunk.end)
}

private let crcTable: [UInt32] = (0..<256).map { byte in
  (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
}

private func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
  ~bytes.reduce(UInt32.max) { crcTable[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] ^ ($0 >> 8) }
}

/// The lines of a pass, with their filters undone.
private struct Lines {
  let data: [UInt8]
  let distance: Int
  private(set) var line: [UInt8] = []
  private var above: [UInt8] = []
  private var at = 0

  init(data: [UInt8], distance: Int) {
    self.data = data
    self.distance = distance
  }

  mutating func begin(_ length: Int) {
    line = [UInt8](repeating: 0, count: length)
    above = line
  }

  mutating func next() throws {
    guard at + line.count < data.count else { throw EndOfBytes() }
    let filter = data[at]
    swap(&line, &above)
    line.replaceSubrange(line.indices, with: data[at + 1..<at + 1 + line.count])
    let distance = distance
    above.withUnsafeBufferPointer { above in line.withUnsafeMutableBufferPointer { undo(filter, $0, above, distance) } }
    at += 1 + line.count
    if filter > 4 { throw DamagedData(message: "an unknown filter") }
  }
}

/// Adds to each byte what a filter predicts of it from the one above and the one that lies `distance` to the left.
private func undo(
  _ filter: UInt8, _ line: UnsafeMutableBufferPointer<UInt8>, _ above: UnsafeBufferPointer<UInt8>, _ distance: Int
) {
  let start = min(distance, line.count)
  switch filter {
  case 1: for index in start..<line.count { line[index] &+= line[index - distance] }
  case 2: for index in 0..<line.count { line[index] &+= above[index] }
  case 3:
    for index in 0..<start { line[index] &+= above[index] / 2 }
    for index in start..<line.count { line[index] &+= UInt8((Int(line[index - distance]) + Int(above[index])) / 2) }
  case 4:
    for index in 0..<start { line[index] &+= above[index] }
    for index in start..<line.count {
      line[index] &+= paeth(Int(line[index - distance]), Int(above[index]), Int(above[index - distance]))
    }
  default: break
  }
}

@inline(__always)
private func paeth(_ left: Int, _ up: Int, _ corner: Int) -> UInt8 {
  let guess = left + up - corner
  let nearer = abs(guess - left) <= abs(guess - up) ? left : up
  return UInt8(abs(guess - nearer) <= abs(guess - corner) ? nearer : corner)
}
