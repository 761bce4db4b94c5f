/// A plane of a camera frame: `rowStride` bytes from row to row, `pixelStride` from sample to sample.
public struct YUVPlane {
  let bytes: UnsafeRawBufferPointer
  let rowStride: Int
  let pixelStride: Int

  public init(_ bytes: UnsafeRawBufferPointer, rowStride: Int, pixelStride: Int) {
    self.bytes = bytes
    self.rowStride = rowStride
    self.pixelStride = pixelStride
  }

  /// Does it hold so many samples of so many rows? The last row may end with its last sample.
  func holds(_ columns: Int, _ rows: Int) -> Bool {
    rowStride > 0 && pixelStride > 0 && (rows - 1) * rowStride + (columns - 1) * pixelStride < bytes.count
  }
}

/// How a camera codes color: BT.601 or BT.709, of full or of video range.
public struct YUVColors: Sendable {
  public static let bt601Full = YUVColors(red: 0.299, blue: 0.114, isVideo: false)
  public static let bt601Video = YUVColors(red: 0.299, blue: 0.114, isVideo: true)
  public static let bt709Full = YUVColors(red: 0.2126, blue: 0.0722, isVideo: false)
  public static let bt709Video = YUVColors(red: 0.2126, blue: 0.0722, isVideo: true)

  // Integers of 16 bits behind the point, so that every device computes the same.
  let black: Int32
  let luma: Int32
  let redOfV: Int32
  let blueOfU: Int32
  let greenOfU: Int32
  let greenOfV: Int32

  private init(red: Double, blue: Double, isVideo: Bool) {
    let chroma = isVideo ? 255.0 / 224 : 1
    let green = 1 - red - blue
    func fixed(_ value: Double) -> Int32 { Int32((value * 65536).rounded(.toNearestOrAwayFromZero)) }
    black = isVideo ? 16 : 0
    luma = fixed(isVideo ? 255.0 / 219 : 1)
    redOfV = fixed(2 * (1 - red) * chroma)
    blueOfU = fixed(2 * (1 - blue) * chroma)
    greenOfU = fixed(2 * blue * (1 - blue) / green * chroma)
    greenOfV = fixed(2 * red * (1 - red) / green * chroma)
  }
}

extension Picture {
  /// Makes an upright picture of a camera frame whose chroma has half the sides: each sample is used for its 2 x 2 pixels
  /// as it is. `turn`: by how many degrees clockwise the frame must be turned to be upright (0, 90, 180, 270).
  public init(
    y: YUVPlane, u: YUVPlane, v: YUVPlane, width: Int, height: Int, colors: YUVColors = .bt601Full, turn: Int = 0
  ) throws {
    try checkSize(width, height)
    guard let orientation = [0: 1, 90: 6, 180: 3, 270: 8][turn] else { try badInput("turn is \(turn); it must be 0, 90, 180 or 270") }
    let (columns, rows) = ((width + 1) / 2, (height + 1) / 2)
    guard y.holds(width, height), u.holds(columns, rows), v.holds(columns, rows) else {
      try badInput("the planes of the frame are smaller than \(width) x \(height)")
    }
    let rgb = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { rgb, written in
      for row in 0..<height { convert(row, width, y, u, v, colors, rgb) }
      written = 3 * width * height
    }
    self.init(upright: rgb, width, height, orientation)
  }
}

private func convert(
  _ row: Int, _ width: Int, _ y: YUVPlane, _ u: YUVPlane, _ v: YUVPlane, _ colors: YUVColors, _ rgb: UnsafeMutableBufferPointer<UInt8>
) {
  for x in 0..<width {
    let luma = (Int32(y.bytes[row * y.rowStride + x * y.pixelStride]) - colors.black) * colors.luma + 32768
    let blue = Int32(u.bytes[row / 2 * u.rowStride + x / 2 * u.pixelStride]) - 128
    let red = Int32(v.bytes[row / 2 * v.rowStride + x / 2 * v.pixelStride]) - 128
    let at = 3 * (row * width + x)
    rgb[at] = clipped(luma + red * colors.redOfV)
    rgb[at + 1] = clipped(luma - blue * colors.greenOfU - red * colors.greenOfV)
    rgb[at + 2] = clipped(luma + blue * colors.blueOfU)
  }
}

private func clipped(_ value: Int32) -> UInt8 { UInt8(truncatingIfNeeded: min(max(value >> 16, 0), 255)) }
