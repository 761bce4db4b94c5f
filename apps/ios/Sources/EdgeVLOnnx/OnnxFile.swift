/// Why bytes are no ONNX file, as the end of a sentence.
struct NoOnnx: Error { let message: String }

/// Does an ONNX file keep weights in other files? Read from its bytes alone, before ONNX Runtime opens what it names.
struct OnnxFile {
  private let data: [UInt8]
  private var at = 0

  init(_ data: [UInt8]) { self.data = data }

  /// Throws `NoOnnx` where the bytes are no message of protobuf at all.
  mutating func keepsWeightsElsewhere() throws -> Bool {
    var waiting = [(kind: "model", start: 0, end: data.count)]
    while let message = waiting.popLast() {
      at = message.start
      while at < message.end {
        guard let inner = try field(message.kind, message.end) else { continue }
        if inner.kind == "external" { return true }
        waiting.append(inner)
      }
    }
    return false
  }

  /// Steps over one field. Returns what it holds, where that may lead to a tensor.
  private mutating func field(_ kind: String, _ end: Int) throws -> (kind: String, start: Int, end: Int)? {
    let tag = try varint(end)
    var size: UInt64 = 0
    switch tag & 7 {
    case 0: _ = try varint(end)
    case 1: size = 8
    case 2: size = try varint(end)
    case 5: size = 4
    default: throw NoOnnx(message: "a field of an unknown kind")
    }
    if size > UInt64(max(end - at, 0)) { throw NoOnnx(message: "a field ends behind its message") }
    let start = at
    at += Int(size)
    return tag & 7 == 2 ? leads[kind]?[tag >> 3].map { ($0, start, start + Int(size)) } : nil
  }

  private mutating func varint(_ end: Int) throws -> UInt64 {
    var (value, shift): (UInt64, UInt64) = (0, 0)
    while at < end && shift < 70 {
      let byte = data[at]
      at += 1
      if shift < 64 { value |= UInt64(byte & 127) << shift }
      shift += 7
      if byte < 128 { return value }
    }
    throw NoOnnx(message: "a number that does not end")
  }
}

/// Fields of onnx.proto that lead to a tensor: message -> number of the field -> message that it holds.
private let leads: [String: [UInt64: String]] = [
  "model": [7: "graph", 20: "training", 25: "function"],
  "training": [1: "graph", 2: "graph"],
  "function": [7: "node", 11: "attribute"],
  "graph": [1: "node", 5: "tensor", 15: "sparse"],
  "node": [5: "attribute"],
  "attribute": [5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"],
  "sparse": [1: "tensor", 2: "tensor"],
  "tensor": [13: "external"],
]
