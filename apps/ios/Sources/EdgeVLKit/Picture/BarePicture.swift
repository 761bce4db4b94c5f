private let app0 = 0xE0
private let app14 = 0xEE
private let comment = 0xFE
private let alphaFlag: UInt8 = 0x10
private let animationFlag: UInt8 = 0x02
private let noFrames = [0xC4, 0xC8, 0xCC]

/// An encoded picture without whatever is no part of it, for a decoder of the platform: there is no profile left to
/// convert colors by, and no EXIF to turn by.
struct BarePicture {
  let file: [UInt8]
  /// Of EXIF, still to be applied.
  let orientation: Int
  /// False where alpha that the decoder gives does not count.
  let hasAlpha: Bool

  /// Throws for a file that is damaged, too large, or of a format that this library does not read.
  init(_ file: [UInt8]) throws {
    orientation = exifOrientation(of: file)
    do {
      if isJPEG(file) {
        (self.file, hasAlpha) = (try bareJPEG(file), false)
      } else if isWebP(file) {
        (self.file, hasAlpha) = try bareWebP(file)
      } else {
        try badInput("the picture is of a format that is not read here: give a JPEG, PNG or WebP")
      }
    } catch is EndOfBytes {
      try badInput("the picture is truncated: save it again")
    }
  }
}

/// Of the segments for applications those of JFIF and Adobe say how colors are stored.
private func bareJPEG(_ file: [UInt8]) throws -> [UInt8] {
  let reader = ByteReader(file)
  var bare = Array(file[..<2])
  for segment in try jpegSegments(file) {
    if (0xC0...0xCF).contains(segment.marker) && !noFrames.contains(segment.marker) { try checkFrame(reader, segment) }
    let isKept = segment.marker == app0 || segment.marker == app14 || !((app0...0xEF).contains(segment.marker) || segment.marker == comment)
    if isKept { bare += try reader.part(segment.start - 4, segment.marker == JPEGSegment.startOfScan ? file.count : segment.end) }
  }
  return bare
}

private func checkFrame(_ reader: ByteReader, _ segment: JPEGSegment) throws {
  let components = try reader.byte(segment.start + 5)
  if try reader.byte(segment.start) != 8 || ![1, 3, 4].contains(components) {
    try badInput("the picture is a JPEG of a kind that is not read: save it with 8 bits")
  }
  let (height, width) = (try reader.number(segment.start + 1, 2), try reader.number(segment.start + 3, 2))
  try checkSize(width, height, most: components == 4 ? maxPixelsOfLarge : maxPixels)
}

private func bareWebP(_ file: [UInt8]) throws -> (file: [UInt8], hasAlpha: Bool) {
  let reader = ByteReader(file)
  var bare = Array(file[..<12])
  var flags = alphaFlag
  for chunk in try webpChunks(file) where !["ICCP", "EXIF", "XMP "].contains(chunk.kind) {
    var content = try reader.part(chunk.start - 8, chunk.end + (chunk.end - chunk.start) % 2)
    if chunk.kind == "VP8X" {
      var sizes = ByteReader(content)
      sizes.isLittleEndian = true
      try checkSize(sizes.number(12, 3) + 1, sizes.number(15, 3) + 1, most: maxPixelsOfLarge)
      flags = content[8]
      content[8] = flags & (alphaFlag | animationFlag)
    }
    bare += content
  }
  for at in 0..<4 { bare[4 + at] = UInt8(truncatingIfNeeded: (bare.count - 8) >> (8 * at)) }
  return (bare, flags & alphaFlag != 0)
}
