#if canImport(ImageIO)
  import CoreGraphics
  import Foundation
  import ImageIO

  extension Picture {
    /// Reads a PNG, JPEG or WebP, with the pixels of the contract: PNG by a reader of its own, the others by the
    /// platform's decoder, which gets them without profile and EXIF. So nothing converts the Display P3 of a photo, and
    /// EXIF turns exactly once.
    public init(file: Data) throws {
      let bytes = Array(file)
      if isPNG(bytes) {
        try self.init(png: bytes)
        return
      }
      let bare = try BarePicture(bytes)
      guard let source = CGImageSourceCreateWithData(Data(bare.file) as CFData, nil), CGImageSourceGetStatus(source) == .statusComplete,
        let image = CGImageSourceCreateImageAtIndex(source, 0, [kCGImageSourceShouldCache: false] as CFDictionary)
      else { try badInput("the picture is damaged: save it again") }
      try self.init(image, orientation: bare.orientation, hasAlpha: bare.hasAlpha)
    }
  }
#endif

#if canImport(CoreGraphics)
  import CoreGraphics

  extension Picture {
    /// Makes a picture of an image of your own as it is: its samples, without a conversion of colors. `orientation` is
    /// that of EXIF, 1 to 8, still to be applied.
    public init(_ image: CGImage, orientation: Int = 1, hasAlpha: Bool = true) throws {
      try checkSize(image.width, image.height)
      let space = image.colorSpace ?? CGColorSpaceCreateDeviceRGB()
      let isOpaque = [.none, .noneSkipFirst, .noneSkipLast].contains(image.alphaInfo)
      if space.model == .monochrome && isOpaque {
        let gray = try drawn(image, space, channels: 1, .none)
        try self.init(samples: gray, width: image.width, height: image.height, channels: 1, orientation: orientation)
        return
      }
      if space.model != .rgb { try badInput("the picture has colors that are not read here: save it as RGB") }
      let rgb = onWhite(premultiplied: try drawn(image, space, channels: 4, .premultipliedLast), hasAlpha: hasAlpha && !isOpaque)
      self.init(upright: rgb, image.width, image.height, orientation)
    }
  }
#endif

#if canImport(CoreGraphics)
  /// Returns the samples of an image, drawn into its own colors: so nothing is converted.
  private func drawn(_ image: CGImage, _ space: CGColorSpace, channels: Int, _ alpha: CGImageAlphaInfo) throws -> [UInt8] {
    let (width, height) = (image.width, image.height)
    var samples = [UInt8](repeating: 0, count: channels * width * height)
    let isDrawn = samples.withUnsafeMutableBytes { raw in
      let context = CGContext(
        data: raw.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: channels * width, space: space,
        bitmapInfo: alpha.rawValue)
      context?.setBlendMode(.copy)
      context?.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
      return context != nil
    }
    if !isDrawn { try badInput("the picture has colors that cannot be drawn: save it as RGB") }
    return samples
  }
#endif

#if canImport(CoreVideo)
  import CoreVideo

  extension Picture {
    /// Makes a picture of a camera frame: `420f`, `420v` or BGRA. `turn`: by how many degrees clockwise it must be turned
    /// to be upright. Its colors are those that the frame says of itself, BT.601 if it says nothing.
    public init(_ buffer: CVPixelBuffer, turn: Int = 0) throws {
      CVPixelBufferLockBaseAddress(buffer, .readOnly)
      defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
      let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
      let matrix = CVBufferCopyAttachment(buffer, kCVImageBufferYCbCrMatrixKey, nil) as? String
      let isNew = matrix == kCVImageBufferYCbCrMatrix_ITU_R_709_2 as String
      switch CVPixelBufferGetPixelFormatType(buffer) {
      case kCVPixelFormatType_420YpCbCr8BiPlanarFullRange:
        try self.init(planesOf: buffer, width, height, isNew ? .bt709Full : .bt601Full, turn)
      case kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange:
        try self.init(planesOf: buffer, width, height, isNew ? .bt709Video : .bt601Video, turn)
      case kCVPixelFormatType_32BGRA:
        guard let orientation = [0: 1, 90: 6, 180: 3, 270: 8][turn] else { try badInput("turn is \(turn); it must be 0, 90, 180 or 270") }
        try checkSize(width, height)
        guard let base = CVPixelBufferGetBaseAddress(buffer) else { try badInput("the frame has no memory") }
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        let rgb = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { rgb, written in
          for y in 0..<height {
            for x in 0..<width {
              let pixel = base + y * stride + 4 * x
              for channel in 0..<3 { rgb[3 * (y * width + x) + channel] = pixel.load(fromByteOffset: 2 - channel, as: UInt8.self) }
            }
          }
          written = 3 * width * height
        }
        self.init(upright: rgb, width, height, orientation)
      default: try badInput("the frame has a format that is not read: ask the camera for 420f, 420v or BGRA")
      }
    }

    private init(planesOf buffer: CVPixelBuffer, _ width: Int, _ height: Int, _ colors: YUVColors, _ turn: Int) throws {
      func plane(_ number: Int, from offset: Int, _ pixelStride: Int) throws -> YUVPlane {
        guard let base = CVPixelBufferGetBaseAddressOfPlane(buffer, number) else { try badInput("the frame has no memory") }
        let stride = CVPixelBufferGetBytesPerRowOfPlane(buffer, number)
        let count = stride * CVPixelBufferGetHeightOfPlane(buffer, number) - offset
        return YUVPlane(UnsafeRawBufferPointer(start: base + offset, count: count), rowStride: stride, pixelStride: pixelStride)
      }
      try self.init(
        y: plane(0, from: 0, 1), u: plane(1, from: 0, 2), v: plane(1, from: 1, 2), width: width, height: height, colors: colors, turn: turn)
    }
  }
#endif
