/// Type of the numbers of a tensor.
public enum DType: String, Sendable {
  case uint8, int8, int32, int64, float16, float32

  /// How many bytes a number has.
  public var bytes: Int {
    switch self {
    case .uint8, .int8: return 1
    case .float16: return 2
    case .int32, .float32: return 4
    case .int64: return 8
    }
  }

  var isFloat: Bool { self == .float16 || self == .float32 }
  var isWhole: Bool { self == .int32 || self == .int64 }
}

/// Where an input of a program comes from: see "Sources" of docs/bundle.md.
public enum Source: Equatable, Sendable {
  case picture(index: Int, processing: String)
  /// Of a mask 1 for start, pieces and stop, 0 for the padding behind them; else the token ids.
  case text(index: Int, processing: String, isMask: Bool)
  /// Of another program; `pictures` and `texts` are those that it sees, nil means all.
  case value(name: String, pictures: [Int]?, texts: [Int]?)
  /// An output of the step before; in the first step the value `start`, or zeros.
  case state(name: String, start: String?)
  case token
  case step

  /// The word of the manifest.
  var kind: String {
    switch self {
    case .picture: return "picture"
    case .text: return "text"
    case .value: return "value"
    case .state: return "state"
    case .token: return "token"
    case .step: return "step"
    }
  }

  /// May only the program of a loop read it?
  var isOfALoop: Bool {
    switch self {
    case .state, .token, .step: return true
    default: return false
    }
  }

  /// The name of the value of another program that it reads.
  var needed: String? {
    switch self {
    case .value(let name, _, _): return name
    case .state(_, let start): return start
    default: return nil
    }
  }
}

/// A tensor of a program. `shape` begins with the batch; `range` is the least and the largest value, nil if not said.
public struct TensorSpec: Equatable, Sendable {
  public let name: String
  public let dtype: DType
  public let shape: [Int]
  public let layout: String
  public let range: [Double]?
  /// Does the platform pass its own picture type, as Core ML does?
  public let isImage: Bool
}

/// An input of a program, with where it comes from.
public struct InputSpec: Equatable, Sendable {
  public let tensor: TensorSpec
  public let source: Source
}

/// One artifact with named inputs and outputs.
public struct Program: Equatable, Sendable {
  public let name: String
  public let artifact: String
  public let precision: String
  public let inputs: [InputSpec]
  public let outputs: [TensorSpec]

  public var batch: Int { outputs[0].shape[0] }
  var tensors: [TensorSpec] { inputs.map(\.tensor) + outputs }
}

/// How a picture becomes uint8 [size, size, 3].
public struct ImageProcessing: Equatable, Sendable {
  public let size: Int
  public let geometry: String
  public let kernel: String
  public let shortestEdge: Int?
}

/// How a text becomes `length` token ids.
public struct TextProcessing: Equatable, Sendable {
  public let kind: String
  public let file: String
  public let length: Int
  public let vocabularySize: Int
  public let padID: Int
  public let startID: Int?
  public let stopID: Int?
  public let allowsEmpty: Bool
}

public struct FileEntry: Equatable, Sendable {
  public let sha256: String
  public let bytes: Int
}

/// A manifest of schema 2 whose fields fit their schema.
public struct Manifest: Sendable {
  public let name: String
  public let task: String
  public let target: String
  public let precision: String
  public let layout: String
  public let license: String
  public let programs: [Program]
  public let imageProcessing: ExactMap<ImageProcessing>
  public let textProcessing: ExactMap<TextProcessing>
  public let files: ExactMap<FileEntry>
  /// The version of EdgeVL that wrote the bundle, as it says.
  public let edgevl: String?
  let labels: (file: String, count: Int)?
  let golden: String
  let decoding: JSONObject
  let checkpointSHA256: String?

  init(_ json: JSONObject) throws {
    name = try json.text("name")
    task = try json.text("task")
    target = try json.text("target")
    precision = try json.text("precision")
    layout = json["layout"]?.text ?? "single"
    license = try json.text("license")
    programs = try json.objects("programs").map(Program.init)
    imageProcessing = try json.object("image_processing").mapValues { try ImageProcessing(objectOf($0)) }
    textProcessing = try json.object("text_processing").mapValues { try TextProcessing(objectOf($0)) }
    files = try json.object("files").mapValues { try FileEntry(objectOf($0)) }
    edgevl = try json.object("versions")["edgevl"]?.text
    labels = try json["labels"]?.object.map { (try $0.text("file"), try $0.integer("count")) }
    golden = try json.text("golden")
    decoding = try json.object("decoding")
    checkpointSHA256 = try json.object("provenance")["checkpoint_sha256"]?.text
  }

  /// The JSON files that a manifest names: of tokenizers, labels and golden cases.
  var texts: [String] { textProcessing.values.map(\.file) + [labels?.file, golden].compactMap { $0 } }
}

private func objectOf(_ value: JSONValue) throws -> JSONObject {
  guard let object = value.object else { try refuse("\(manifestName): an object is missing") }
  return object
}

extension Program {
  fileprivate init(_ json: JSONObject) throws {
    name = try json.text("name")
    artifact = try json.text("artifact")
    precision = try json.text("precision")
    inputs = try json.objects("inputs").map { try InputSpec(tensor: TensorSpec($0), source: Source($0.object("from"))) }
    outputs = try json.objects("outputs").map(TensorSpec.init)
  }
}

extension TensorSpec {
  init(_ json: JSONObject) throws {
    name = try json.text("name")
    let word = try json.text("dtype")
    guard let dtype = DType(rawValue: word) else { try refuse("\(name): the type \(word) is not known") }
    self.dtype = dtype
    shape = try json.integers("shape")
    layout = try json.text("layout")
    range = json.has("range") ? try json.numbers("range") : nil
    isImage = json["kind"]?.text == "image"
  }
}

extension Source {
  fileprivate init(_ json: JSONObject) throws {
    let index = json["index"]?.integer ?? 0
    let processing = json["processing"]?.text ?? "main"
    switch try json.text("kind") {
    case "picture": self = .picture(index: index, processing: processing)
    case "text": self = .text(index: index, processing: processing, isMask: json["part"]?.text == "mask")
    case "value":
      let pictures = json.has("pictures") ? try json.integers("pictures") : nil
      let texts = json.has("texts") ? try json.integers("texts") : nil
      self = .value(name: try json.text("name"), pictures: pictures, texts: texts)
    case "state": self = .state(name: try json.text("name"), start: json["start"]?.text)
    case "token": self = .token
    default: self = .step
    }
  }
}

extension ImageProcessing {
  fileprivate init(_ json: JSONObject) throws {
    size = try json.integer("size")
    geometry = try json.text("geometry")
    kernel = try json.text("kernel")
    shortestEdge = json["shortest_edge"]?.integer
  }
}

extension TextProcessing {
  fileprivate init(_ json: JSONObject) throws {
    kind = try json.text("kind")
    file = try json.text("file")
    length = try json.integer("length")
    vocabularySize = try json.integer("vocab_size")
    padID = try json.integer("pad_id")
    startID = json["start_id"]?.integer
    stopID = json["stop_id"]?.integer
    allowsEmpty = json["empty"]?.text == "allow"
  }
}

extension FileEntry {
  fileprivate init(_ json: JSONObject) throws {
    sha256 = try json.text("sha256")
    bytes = try json.integer("bytes")
  }
}
