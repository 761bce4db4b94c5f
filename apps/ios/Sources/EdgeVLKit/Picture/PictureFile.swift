#if !canImport(ImageIO)
  import Foundation

  extension Picture {
    /// Reads a PNG. Where the platform has a decoder (Apple's), JPEG and WebP are read, too.
    public init(file: Data) throws {
      let bytes = Array(file)
      if !isPNG(bytes) { try badInput("the picture is no PNG, and only PNG is read on this platform") }
      try self.init(png: bytes)
    }
  }
#endif
