private let gray: UInt8 = 114
private let maxRatio = 200

extension ImageProcessing {
  /// Returns uint8 [S, S, 3] of a picture: rows, then columns, then R, G, B. Throws for a picture that does not fit.
  public func pixels(of picture: Picture) throws -> [UInt8] {
    let kernel = kernel == "cubic" ? Kernel.cubic : .triangle
    switch geometry {
    case "shortest-edge": return try cropped(picture, kernel)
    case "letterbox": return try letterboxed(picture, kernel)
    default: return try resized(picture, size, size, kernel)
    }
  }

  /// The short side becomes E; then the central S x S, rounded to the top left.
  private func cropped(_ picture: Picture, _ kernel: Kernel) throws -> [UInt8] {
    let (width, height) = try sidesOfShortestEdge(picture)
    let pixels = try resized(picture, width, height, kernel)
    var square: [UInt8] = []
    square.reserveCapacity(3 * size * size)
    for y in 0..<size {
      let from = 3 * ((y + (height - size) / 2) * width + (width - size) / 2)
      square += pixels[from..<from + 3 * size]
    }
    return square
  }

  private func letterboxed(_ picture: Picture, _ kernel: Kernel) throws -> [UInt8] {
    let (width, height) = sidesOfLetterbox(picture)
    let pixels = try resized(picture, width, height, kernel)
    var square = [UInt8](repeating: gray, count: 3 * size * size)
    for y in 0..<height {
      let to = 3 * ((y + (size - height) / 2) * size + (size - width) / 2)
      square.replaceSubrange(to..<to + 3 * width, with: pixels[3 * y * width..<3 * (y + 1) * width])
    }
    return square
  }

  private func sidesOfShortestEdge(_ picture: Picture) throws -> (width: Int, height: Int) {
    let (short, long) = (min(picture.width, picture.height), max(picture.width, picture.height))
    if long > maxRatio * short {
      try badInput("the picture is \(picture.width) x \(picture.height), too long: at most \(maxRatio) times its short side")
    }
    let edge = shortestEdge ?? size
    let other = edge * long / short
    return picture.width <= picture.height ? (edge, other) : (other, edge)
  }

  private func sidesOfLetterbox(_ picture: Picture) -> (width: Int, height: Int) {
    let long = max(picture.width, picture.height)
    func side(_ length: Int) -> Int { max(1, (2 * size * length + long) / (2 * long)) }
    return (side(picture.width), side(picture.height))
  }

  /// Returns a box of the picture itself: `box` is left, top, right, bottom as shares of the square that the model sees,
  /// the result as shares of the sides of the upright picture, cut at its edges.
  public func boxOnPicture(_ box: [Double], _ picture: Picture) throws -> [Double] {
    var (width, height) = (size, size)
    if geometry == "shortest-edge" { (width, height) = try sidesOfShortestEdge(picture) }
    if geometry == "letterbox" { (width, height) = sidesOfLetterbox(picture) }
    return box.enumerated().map { index, share in
      let side = index % 2 == 0 ? width : height
      let margin = (side - size) / 2  // cut off, or below zero where gray was added; rounded toward zero
      return min(max((share * Double(size) + Double(margin)) / Double(side), 0), 1)
    }
  }
}
