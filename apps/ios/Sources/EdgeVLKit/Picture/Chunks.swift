/// A chunk of a PNG or a WebP, or a segment of a JPEG: its content is `start..<end` of the file, which may end before.
struct Chunk {
  let kind: String
  let start: Int
  let end: Int
}

let pngSignature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

/// Is it a PNG, by its first bytes?
public func isPNG(_ file: [UInt8]) -> Bool { file.starts(with: pngSignature) }

func isJPEG(_ file: [UInt8]) -> Bool { file.count > 2 && file.starts(with: [0xFF, 0xD8]) }

func isWebP(_ file: [UInt8]) -> Bool {
  file.count > 16 && file.starts(with: "RIFF".utf8) && file[8...].starts(with: "WEBP".utf8)
}

/// The chunks of a PNG in order; the last may reach beyond the file.
func pngChunks(_ file: [UInt8]) throws -> [Chunk] {
  let reader = ByteReader(file)
  var (chunks, at): ([Chunk], Int) = ([], pngSignature.count)
  while at + 8 <= file.count {
    let count = try reader.number(at, 4)
    chunks.append(Chunk(kind: try reader.ascii(at + 4, 4), start: at + 8, end: at + 8 + count))
    at += count + 12
  }
  return chunks
}

/// The chunks of a WebP in order. Throws `EndOfBytes` where one reaches beyond the file.
func webpChunks(_ file: [UInt8]) throws -> [Chunk] {
  var reader = ByteReader(file)
  reader.isLittleEndian = true
  var (chunks, at): ([Chunk], Int) = ([], 12)
  while at + 8 <= file.count {
    let count = try reader.number(at + 4, 4)
    if count > file.count - at - 8 { throw EndOfBytes() }
    chunks.append(Chunk(kind: try reader.ascii(at, 4), start: at + 8, end: at + 8 + count))
    at += 8 + count + count % 2
  }
  return chunks
}

/// A segment of a JPEG before its first scan, whose content is `start..<end`.
struct JPEGSegment {
  let marker: Int
  let start: Int
  let end: Int

  static let startOfScan = 0xDA
}

/// The segments until the first scan, which is the last of them. Throws `EndOfBytes` where the file ends before `wanted`
/// is true of a segment, or before the scan.
func jpegSegments(_ file: [UInt8], until wanted: (JPEGSegment) -> Bool = { _ in false }) throws -> [JPEGSegment] {
  let reader = ByteReader(file)
  var (segments, at): ([JPEGSegment], Int) = ([], 2)
  while true {
    while try reader.byte(at) != 0xFF || [0, 0xFF].contains(reader.byte(at + 1)) { at += 1 }
    let marker = try reader.byte(at + 1)
    at += 2
    if marker == 0x01 || (0xD0...0xD9).contains(marker) { continue }
    let end = at + max(try reader.number(at, 2), 2)
    segments.append(JPEGSegment(marker: marker, start: at + 2, end: end))
    if marker == JPEGSegment.startOfScan || wanted(segments[segments.count - 1]) { return segments }
    at = end
  }
}
