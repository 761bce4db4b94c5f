private let bits: Int32 = 22
private let half: Int32 = 1 << (bits - 1)

/// A kernel of the contract: how far it reaches, and its weight at a distance.
enum Kernel {
  case triangle
  case cubic

  var reach: Double { self == .triangle ? 1 : 2 }

  func weight(_ x: Double) -> Double {
    let d = abs(x)
    if self == .triangle { return max(0, 1 - d) }
    if d < 1 { return (1.5 * d - 2.5) * d * d + 1 }
    return d < 2 ? (((d - 5) * d + 8) * d - 4) * -0.5 : 0
  }
}

/// Integer factors of one pass from `n` to `m` samples: those of result i are `factors[starts[i]..<starts[i + 1]]`.
private struct Factors {
  private(set) var first: [Int] = []
  private(set) var starts = [0]
  private(set) var factors: [Int32] = []

  init(_ n: Int, _ m: Int, _ kernel: Kernel) {
    let scale = Double(n) / Double(m)
    let widened = max(scale, 1)
    let support = kernel.reach * widened
    for out in 0..<m {
      let center = (Double(out) + 0.5) * scale
      let start = max(Int(center - support + 0.5), 0)
      let end = min(Int(center + support + 0.5), n)
      let weights = (start..<end).map { kernel.weight((Double($0) - center + 0.5) * (1 / widened)) }
      let total = weights.reduce(0, +)
      first.append(start)
      factors += weights.map { rounded($0 / total) }
      starts.append(factors.count)
    }
  }

  private func rounded(_ share: Double) -> Int32 { Int32(share * Double(1 << 22) + (share < 0 ? -0.5 : 0.5)) }
}

/// Resizes RGB [height, width, 3]: rows first, rounded to 8 bits, then columns. Throws for what is too large.
func resized(_ picture: Picture, _ width: Int, _ height: Int, _ kernel: Kernel) throws -> [UInt8] {
  if width * max(picture.height, height) > maxPixels {
    try badInput("the picture is \(picture.width) x \(picture.height), too long to be resized to \(width) x \(height): cut it")
  }
  let wide = picture.width == width ? picture.rgb : horizontal(picture, width, kernel)
  return picture.height == height ? wide : vertical(wide, width, picture.height, height, kernel)
}

private func horizontal(_ picture: Picture, _ width: Int, _ kernel: Kernel) -> [UInt8] {
  let factors = Factors(picture.width, width, kernel)
  let count = 3 * width * picture.height
  return [UInt8](unsafeUninitializedCapacity: count) { result, written in
    picture.rgb.withUnsafeBufferPointer { rgb in
      for y in 0..<picture.height {
        let row = UnsafeBufferPointer(rebasing: rgb[3 * y * picture.width..<3 * (y + 1) * picture.width])
        let to = UnsafeMutableBufferPointer(rebasing: result[3 * y * width..<3 * (y + 1) * width])
        resizeRow(row, to, factors)
      }
    }
    written = count
  }
}

private func resizeRow(_ row: UnsafeBufferPointer<UInt8>, _ to: UnsafeMutableBufferPointer<UInt8>, _ factors: Factors) {
  factors.factors.withUnsafeBufferPointer { all in
    for x in 0..<factors.first.count {
      var from = 3 * factors.first[x]
      var (red, green, blue) = (half, half, half)
      for at in factors.starts[x]..<factors.starts[x + 1] {
        let factor = all[at]
        red &+= Int32(row[from]) &* factor
        green &+= Int32(row[from + 1]) &* factor
        blue &+= Int32(row[from + 2]) &* factor
        from += 3
      }
      to[3 * x] = clipped(red)
      to[3 * x + 1] = clipped(green)
      to[3 * x + 2] = clipped(blue)
    }
  }
}

private func vertical(_ rgb: [UInt8], _ width: Int, _ height: Int, _ newHeight: Int, _ kernel: Kernel) -> [UInt8] {
  let factors = Factors(height, newHeight, kernel)
  let row = 3 * width
  var sums = [Int32](repeating: half, count: row)
  return [UInt8](unsafeUninitializedCapacity: row * newHeight) { result, written in
    rgb.withUnsafeBufferPointer { rgb in
      sums.withUnsafeMutableBufferPointer { sums in
        for y in 0..<newHeight {
          sums.update(repeating: half)
          for at in factors.starts[y]..<factors.starts[y + 1] {
            let (factor, from) = (factors.factors[at], row * (factors.first[y] + at - factors.starts[y]))
            for x in 0..<row { sums[x] &+= Int32(rgb[from + x]) &* factor }
          }
          for x in 0..<row { result[row * y + x] = clipped(sums[x]) }
        }
      }
    }
    written = row * newHeight
  }
}

@inline(__always) private func clipped(_ sum: Int32) -> UInt8 { UInt8(truncatingIfNeeded: min(max(sum >> bits, 0), 255)) }
