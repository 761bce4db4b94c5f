let maxPixels = 89_478_485
let maxPixelsOfLarge = 50_331_648  // of WebP, and of JPEG of four components
private let maxSide = 1_000_000

/// An upright picture, RGB of 8 bits on white: what every image processing starts from (docs/bundle.md, "Pictures").
///
/// Color profiles are ignored by the contract: hand over the samples as the file holds them, not converted.
public struct Picture: Sendable {
  public let width: Int
  public let height: Int
  /// Rows, then columns, then R, G, B.
  public let rgb: [UInt8]

  /// Makes a picture of samples as a file holds them.
  ///
  /// `channels`: 1 gray, 3 RGB, 4 RGB and alpha (straight, not multiplied). `depth`: 8 bits, or 16 in little endian.
  /// `orientation`: that of EXIF, 1 to 8, still to be applied. Throws for a size that is refused.
  public init(samples: [UInt8], width: Int, height: Int, channels: Int, depth: Int = 8, orientation: Int = 1) throws {
    try checkSize(width, height)
    guard [1, 3, 4].contains(channels), [8, 16].contains(depth), samples.count == width * height * channels * depth / 8 else {
      try badInput("\(samples.count) bytes are no picture of \(width) x \(height) with \(channels) channels of \(depth) bits")
    }
    let bytes = depth == 8 ? samples : bytesOf16Bits(samples, isGray: channels == 1)
    self.init(upright: onWhite(bytes, channels), width, height, orientation)
  }

  /// Makes a picture of RGB bytes, which it keeps where nothing is turned.
  init(upright rgb: [UInt8], _ width: Int, _ height: Int, _ orientation: Int) {
    let isAcross = (5...8).contains(orientation)
    self.width = isAcross ? height : width
    self.height = isAcross ? width : height
    self.rgb = (2...8).contains(orientation) ? turned(rgb, width, height, orientation) : rgb
  }
}

/// Throws for a size that is refused before any memory is taken.
func checkSize(_ width: Int, _ height: Int, most: Int = maxPixels) throws {
  if width < 1 || height < 1 { try badInput("the picture has no pixels (\(width) x \(height))") }
  if max(width, height) > maxSide { try badInput("a side of the picture has more than \(maxSide) pixels: make it smaller") }
  if width * height > most { try badInput("the picture has \(width) x \(height) pixels, at most \(most) are read: make it smaller") }
}

/// Composites a color on white.
@inline(__always) func onWhite(_ color: UInt8, _ alpha: UInt8) -> UInt8 {
  let (color, alpha) = (Int32(color), Int32(alpha))
  return UInt8(truncatingIfNeeded: (color * alpha + 255 * (255 - alpha) + 127) / 255)
}

/// Returns gray of 16 bits as 8.
func grayOf16Bits(_ value: Int) -> UInt8 { UInt8(truncatingIfNeeded: (value + 128) / 257) }

private func onWhite(_ samples: [UInt8], _ channels: Int) -> [UInt8] {
  if channels == 3 { return samples }
  let count = samples.count / channels
  return [UInt8](unsafeUninitializedCapacity: 3 * count) { rgb, written in
    for at in 0..<count {
      let from = channels * at
      let alpha = channels == 4 ? samples[from + 3] : 255
      for channel in 0..<3 { rgb[3 * at + channel] = onWhite(samples[channels == 1 ? from : from + channel], alpha) }
    }
    written = 3 * count
  }
}

private func bytesOf16Bits(_ samples: [UInt8], isGray: Bool) -> [UInt8] {
  (0..<samples.count / 2).map { at in
    let high = samples[2 * at + 1]
    return isGray ? grayOf16Bits(Int(high) << 8 | Int(samples[2 * at])) : high
  }
}

/// Turns RGB by an orientation of 2 to 8.
private func turned(_ rgb: [UInt8], _ width: Int, _ height: Int, _ orientation: Int) -> [UInt8] {
  let isAcross = orientation >= 5
  let fromRight = [2, 3, 7, 8].contains(orientation)
  let fromBelow = [3, 4, 6, 7].contains(orientation)
  let columns = isAcross ? height : width
  return [UInt8](unsafeUninitializedCapacity: rgb.count) { result, written in
    for y in 0..<(isAcross ? width : height) {
      for x in 0..<columns {
        let (column, row) = isAcross ? (y, x) : (x, y)
        let from = 3 * ((fromBelow ? height - 1 - row : row) * width + (fromRight ? width - 1 - column : column))
        for channel in 0..<3 { result[3 * (y * columns + x) + channel] = rgb[from + channel] }
      }
    }
    written = rgb.count
  }
}

/// Composites RGBA whose colors are multiplied by their alpha on white.
func onWhite(premultiplied samples: [UInt8], hasAlpha: Bool) -> [UInt8] {
  let count = samples.count / 4
  return [UInt8](unsafeUninitializedCapacity: 3 * count) { rgb, written in
    for at in 0..<count {
      let missing = hasAlpha ? 255 - Int(samples[4 * at + 3]) : 0
      for channel in 0..<3 { rgb[3 * at + channel] = UInt8(min(Int(samples[4 * at + channel]) + missing, 255)) }
    }
    written = 3 * count
  }
}
