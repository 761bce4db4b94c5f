/// Numbers of one type in native byte order, rows first.
public struct Tensor: Sendable {
  public let dtype: DType
  public let shape: [Int]
  public let bytes: [UInt8]

  /// Throws where the bytes do not fill the shape.
  public init(dtype: DType, shape: [Int], bytes: [UInt8]) throws {
    if try Tensor.size(dtype, shape) != bytes.count { try refuse("\(bytes.count) bytes do not fill \(dtype.rawValue) \(shape)") }
    self.dtype = dtype
    self.shape = shape
    self.bytes = bytes
  }

  /// Makes a tensor of zeros.
  init(zerosOf spec: TensorSpec) throws {
    try self.init(dtype: spec.dtype, shape: spec.shape, bytes: [UInt8](repeating: 0, count: Tensor.size(spec.dtype, spec.shape)))
  }

  /// Fills each sample of a program's input with the same whole numbers.
  init(_ spec: TensorSpec, ids: [Int]) throws {
    let row = spec.dtype == .int64 ? bytesOf(ids.map(Int64.init)) : bytesOf(ids.map { Int32(truncatingIfNeeded: $0) })
    try self.init(spec, row: row)
  }

  /// Fills each sample of a program's input with the same pixels, uint8 [S, S, 3], in the layout that it takes.
  init(_ spec: TensorSpec, pixels: [UInt8]) throws {
    try self.init(spec, row: spec.isImage ? planes(pixels) : pixels)
  }

  private init(_ spec: TensorSpec, row: [UInt8]) throws {
    let batch = spec.shape[0]
    try self.init(dtype: spec.dtype, shape: spec.shape, bytes: batch == 1 ? row : (0..<batch).flatMap { _ in row })
  }

  /// Returns this value as another program takes it: as it is, or its first sample repeated for another batch.
  func fitted(_ spec: TensorSpec) throws -> Tensor {
    shape == spec.shape ? self : try Tensor(spec, row: Array(bytes[..<(bytes.count / shape[0])]))
  }

  /// Returns the first sample as numbers.
  func firstRow() throws -> [Float] {
    let row = bytes[..<(bytes.count / shape[0])]
    switch dtype {
    case .float32:
      return row.withUnsafeBytes { raw in (0..<raw.count / 4).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) } }
    case .float16:
      return row.withUnsafeBytes { raw in
        (0..<raw.count / 2).map { float(half: raw.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)) }
      }
    default: try refuse("\(dtype.rawValue) is no floating point")
    }
  }

  /// Returns how many bytes a shape takes, which a foreign manifest may make larger than any memory.
  private static func size(_ dtype: DType, _ shape: [Int]) throws -> Int {
    let size = shape.reduce(Double(dtype.bytes)) { $0 * Double($1) }
    if shape.isEmpty || shape.contains(where: { $0 < 1 }) || size > Double(Int32.max) {
      try refuse("a tensor of \(shape) is too large, or empty")
    }
    return Int(size)
  }
}

private func bytesOf<Number>(_ numbers: [Number]) -> [UInt8] { numbers.withUnsafeBytes { Array($0) } }

/// Returns pixels as three planes of floats.
private func planes(_ pixels: [UInt8]) -> [UInt8] {
  bytesOf((0..<3).flatMap { channel in stride(from: channel, to: pixels.count, by: 3).map { Float(pixels[$0]) } })
}

/// Returns a number of 16 bits as one of 32: `Float16` is not there on every Mac.
func float(half: UInt16) -> Float {
  let (exponent, fraction) = (Int(half >> 10 & 31), Float(half & 1023))
  let sign: Float = half >> 15 == 1 ? -1 : 1
  switch exponent {
  case 0: return sign * fraction / 16_777_216
  case 31: return fraction == 0 ? sign * .infinity : .nan
  default: return sign * Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction / 1024)
  }
}
