#if canImport(CoreML)
  import CoreML
  import CoreVideo
  import Foundation

  private let types: [DType: MLMultiArrayDataType] = [.int32: .int32, .float16: .float16, .float32: .float32]

  /// One opened program. Core ML allows predictions from several threads at once.
  final class CoreMLSession: Session, @unchecked Sendable {
    private let model: MLModel
    private let program: Program

    init(_ model: MLModel, _ program: Program) {
      self.model = model
      self.program = program
    }

    /// Throws unless the artifact takes and gives what the manifest says.
    func checkInterface() throws {
      let description = model.modelDescription
      let inputs = (description.inputDescriptionsByName, program.inputs.map(\.tensor), "inputs")
      for (found, specs, side) in [inputs, (description.outputDescriptionsByName, program.outputs, "outputs")] {
        let fits = Set(found.keys) == Set(specs.map(\.name)) && specs.allSatisfy { fits($0, found[$0.name]) }
        if !fits { try refuse("the \(side) of \(program.artifact) are not what the manifest says") }
      }
    }

    private func fits(_ spec: TensorSpec, _ found: MLFeatureDescription?) -> Bool {
      if spec.isImage {
        let constraint = found?.imageConstraint
        return constraint?.pixelsWide == spec.shape[3] && constraint?.pixelsHigh == spec.shape[2]
      }
      guard let constraint = found?.multiArrayConstraint, let type = types[spec.dtype] else { return false }
      let shape = constraint.shape.map(\.intValue)
      return constraint.dataType == type && (shape.isEmpty || shape == spec.shape)
    }

    /// Runs once with zeros.
    func warmUp() throws {
      _ = try run(Dictionary(program.inputs.map { ($0.tensor.name, try Tensor(zerosOf: $0.tensor)) }) { first, _ in first })
    }

    func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
      var features: [String: MLFeatureValue] = [:]
      for input in program.inputs {
        guard let tensor = inputs[input.tensor.name] else { continue }
        let isImage = input.tensor.isImage
        features[input.tensor.name] =
          try isImage ? MLFeatureValue(pixelBuffer: pixelBuffer(tensor)) : MLFeatureValue(multiArray: array(tensor))
      }
      let found = try predicted(MLDictionaryFeatureProvider(dictionary: features))
      var outputs: [String: Tensor] = [:]
      for spec in program.outputs {
        guard let array = found.featureValue(for: spec.name)?.multiArrayValue, array.dataType == types[spec.dtype] else {
          try refuse("\(program.artifact) gives no \(spec.dtype.rawValue) \(spec.name)")
        }
        outputs[spec.name] = try tensor(array, spec)
      }
      return outputs
    }

    private func predicted(_ features: MLDictionaryFeatureProvider) throws -> any MLFeatureProvider {
      do {
        return try model.prediction(from: features)
      } catch {
        try refuse("\(program.artifact) fails when it runs: \(error.localizedDescription)")
      }
    }

    private func array(_ tensor: Tensor) throws -> MLMultiArray {
      guard let type = types[tensor.dtype] else { try refuse("Core ML takes no \(tensor.dtype.rawValue)") }
      let array = try MLMultiArray(shape: tensor.shape.map { NSNumber(value: $0) }, dataType: type)
      tensor.bytes.withUnsafeBytes { if let from = $0.baseAddress { array.dataPointer.copyMemory(from: from, byteCount: $0.count) } }
      return array
    }

    /// Copies an output row by row: Core ML pads rows as its units like.
    private func tensor(_ array: MLMultiArray, _ spec: TensorSpec) throws -> Tensor {
      let (shape, strides, size) = (array.shape.map(\.intValue), array.strides.map(\.intValue), spec.dtype.bytes)
      var bytes: [UInt8] = []
      func copy(_ axis: Int, _ offset: Int) {
        if axis == shape.count {
          bytes += UnsafeRawBufferPointer(start: array.dataPointer + offset * size, count: size)
        } else if axis == shape.count - 1 && strides[axis] == 1 {
          bytes += UnsafeRawBufferPointer(start: array.dataPointer + offset * size, count: shape[axis] * size)
        } else {
          for index in 0..<shape[axis] { copy(axis + 1, offset + index * strides[axis]) }
        }
      }
      copy(0, 0)
      return try Tensor(dtype: spec.dtype, shape: shape, bytes: bytes)
    }

    /// Returns the pixels of three planes of floats as Core ML's picture type. It has the size that the model takes:
    /// Core ML and Vision would resize in another way than training did.
    private func pixelBuffer(_ tensor: Tensor) throws -> CVPixelBuffer {
      let (height, width) = (tensor.shape[2], tensor.shape[3])
      var created: CVPixelBuffer?
      let options = [kCVPixelBufferIOSurfacePropertiesKey: [:] as CFDictionary] as CFDictionary
      guard CVPixelBufferCreate(nil, width, height, kCVPixelFormatType_32BGRA, options, &created) == kCVReturnSuccess, let buffer = created
      else {
        try refuse("there is no memory for a picture of \(width) x \(height)")
      }
      CVPixelBufferLockBaseAddress(buffer, [])
      defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
      guard let base = CVPixelBufferGetBaseAddress(buffer)?.assumingMemoryBound(to: UInt8.self) else {
        try refuse("a picture has no memory")
      }
      let stride = CVPixelBufferGetBytesPerRow(buffer)
      tensor.bytes.withUnsafeBytes { raw in
        let planes = raw.bindMemory(to: Float.self)
        for y in 0..<height {
          for x in 0..<width {
            let (at, pixel) = (y * width + x, base + y * stride + 4 * x)
            for channel in 0..<3 { pixel[2 - channel] = UInt8(planes[channel * width * height + at]) }
            pixel[3] = 255
          }
        }
      }
      return buffer
    }
  }
#endif
