private let orientationTag = 0x0112
private let maxText = 1 << 20
private let app1 = 0xE1
private let exifHeader = Array("Exif\0\0".utf8)
private let rawProfile = Array("Raw profile type exif\0".utf8)

/// Returns the EXIF orientation of an encoded picture (JPEG, PNG, WebP), 1 to 8; 1 where there is none that can be read.
///
/// Nothing else turns a picture: XMP, which some libraries read, does not (docs/bundle.md, "Orientation").
public func exifOrientation(of file: [UInt8]) -> Int {
  let block = try? isJPEG(file) ? exifOfJPEG(file) : isPNG(file) ? exifOfPNG(file) : isWebP(file) ? exifOfWebP(file) : nil
  return block.flatMap { try? orientation(ofBlock: $0) } ?? 1
}

/// Only the first directory counts: the second describes the thumbnail.
func orientation(ofBlock block: [UInt8]) throws -> Int {
  var tiff = ByteReader(block.starts(with: exifHeader) ? block.dropFirst(exifHeader.count) : block[...])
  if tiff.starts(at: 0, with: Array("II*\0".utf8)) {
    tiff.isLittleEndian = true
  } else if !tiff.starts(at: 0, with: Array("MM\0*".utf8)) {
    return 1
  }
  let directory = try tiff.number(4, 4)
  for number in 0..<(try tiff.number(directory, 2)) {
    let entry = directory + 2 + 12 * number
    if try tiff.number(entry, 2) != orientationTag { continue }
    let sizes = [1: 1, 3: 2, 4: 4]
    guard let size = sizes[try tiff.number(entry + 2, 2)] else { return 1 }
    let value = try tiff.number(entry + 8, size)
    return (1...8).contains(value) ? value : 1
  }
  return 1
}

/// Returns the first segment APP1 that begins with Exif and two zero bytes, before the first scan.
private func exifOfJPEG(_ file: [UInt8]) throws -> [UInt8]? {
  let reader = ByteReader(file)
  func isExif(_ segment: JPEGSegment) -> Bool { segment.marker == app1 && reader.starts(at: segment.start, with: exifHeader) }
  let segments = try jpegSegments(file, until: isExif)
  return try segments.last.flatMap { isExif($0) ? try reader.part($0.start, $0.end) : nil }
}

private func exifOfPNG(_ file: [UInt8]) throws -> [UInt8]? {
  var text: [UInt8]?
  for chunk in try pngChunks(file) {
    if chunk.kind == "IEND" { break }
    if chunk.kind == "eXIf" { return try ByteReader(file).part(chunk.start, chunk.end) }
    if chunk.kind == "tEXt" || chunk.kind == "zTXt" { text = try text ?? profile(chunk, file) }
  }
  return text
}

/// Returns EXIF that ImageMagick wrote as text: lines with a name, a length, and hexadecimal digits.
private func profile(_ chunk: Chunk, _ file: [UInt8]) throws -> [UInt8]? {
  let reader = ByteReader(file)
  guard reader.starts(at: chunk.start, with: rawProfile) else { return nil }
  let content = try reader.part(chunk.start + rawProfile.count, chunk.end)
  let packed = chunk.kind == "zTXt"
  guard let text = packed ? try? inflated(Array(content.dropFirst()), limit: maxText) : Array(content.prefix(maxText)) else { return nil }
  let lines = text.split(separator: 0x0A, omittingEmptySubsequences: false).dropFirst(3)
  let digits = lines.joined().filter { ![0x09, 0x0B, 0x0C, 0x0D, 0x20].contains($0) }
  let values = digits.compactMap(hexadecimalDigit)
  guard values.count == digits.count, values.count % 2 == 0 else { return [] }
  return stride(from: 0, to: values.count, by: 2).map { values[$0] << 4 | values[$0 + 1] }
}

private func exifOfWebP(_ file: [UInt8]) throws -> [UInt8]? {
  guard let chunk = try webpChunks(file).first(where: { $0.kind == "EXIF" }) else { return nil }
  return try ByteReader(file).part(chunk.start, chunk.end)
}
