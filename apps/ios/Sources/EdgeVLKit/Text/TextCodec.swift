/// Texts to token ids and back, as a manifest's `text_processing` declares. Safe to use from several threads.
protocol TextCodec: Sendable {
  var spec: TextProcessing { get }
  /// The piece of each id.
  var pieces: [String] { get }

  /// Returns the ids of the pieces that a text falls into, as many as there are.
  func piecesOf(_ text: String) -> [Int]

  /// Returns the text of pieces without special tokens.
  func join(_ pieces: [String]) -> String
}

extension TextCodec {
  /// Returns T token ids. Throws for a text without a single piece where the bundle refuses those.
  func encode(_ text: String) throws -> [Int] {
    let ids = try framed(text)
    return ids + [Int](repeating: spec.padID, count: max(spec.length - ids.count, 0))
  }

  /// Returns T numbers: 1 for start, pieces and stop, 0 for the padding behind them, whatever its id.
  func mask(_ text: String) throws -> [Int] {
    let count = try framed(text).count
    return (0..<spec.length).map { $0 < count ? 1 : 0 }
  }

  private func framed(_ text: String) throws -> [Int] {
    let found = piecesOf(text)
    if found.isEmpty && !spec.allowsEmpty { try badInput("the text is empty: ask something in words") }
    let (before, after) = ([spec.startID].compactMap { $0 }, [spec.stopID].compactMap { $0 })
    return before + Array(found.prefix(max(spec.length - before.count - after.count, 0))) + after
  }

  /// Returns the words of token ids.
  func decode(_ ids: [Int]) -> String {
    join(ids.filter { $0 != spec.startID && $0 != spec.stopID && pieces.indices.contains($0) }.map { pieces[$0] })
  }
}

/// Why a file is no tokenizer, as the end of a sentence.
struct WrongTokenizer: Error { let message: String }

/// Opens a tokenizer from its parsed file. Refuses a kind or a setting that is not known.
func openTextCodec(_ spec: TextProcessing, _ values: JSONValue) throws -> any TextCodec {
  do {
    switch spec.kind {
    case "wordpiece": return try WordPiece(spec, values)
    case "byte-bpe": return try ByteBPE(spec, values)
    default: throw WrongTokenizer(message: "its kind \(spec.kind) is not known to this library: update it")
    }
  } catch let error as WrongTokenizer {
    try refuse("\(spec.file) cannot be read as a tokenizer: \(error.message)")
  }
}

/// Returns the lower case of each code point by itself: Unicode's full mapping, without its rules of context.
func lower(_ text: String) -> String {
  text.unicodeScalars.reduce(into: "") { result, scalar in
    if scalar.isASCII {
      let isCapital = ("A"..."Z").contains(scalar)
      result.unicodeScalars.append(isCapital ? Unicode.Scalar(UInt8(scalar.value + 32)) : scalar)
    } else {
      result += scalar.properties.lowercaseMapping
    }
  }
}
