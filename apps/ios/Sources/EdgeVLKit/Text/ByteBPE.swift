import Foundation

private let startToken = "<|startoftext|>"
private let stopToken = "<|endoftext|>"
let endOfWord = "</w>"
private let endings = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map { Array($0.unicodeScalars) }
private let words = "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
private let specialWords = "<\\|startoftext\\|>|<\\|endoftext\\|>|"

private func byteLevel(_ prefix: Wanted) -> Wanted {
  ["type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": .anything, "use_regex": .anything]
}

private let format: [String: Wanted] = [
  "version": "1.0", "truncation": .anything, "padding": .anything, "post_processor": .anything, "decoder": byteLevel(.anything),
  "normalizer": [
    "type": "Sequence",
    "normalizers": .list([
      ["type": "NFC"], ["type": "Replace", "pattern": ["Regex": "\\s+"], "content": " "], ["type": "Lowercase"],
    ]),
  ],
  "pre_tokenizer": [
    "type": "Sequence",
    "pretokenizers": .list([
      [
        "type": "Split", "behavior": "Removed", "invert": true,
        "pattern": ["Regex": .oneOf([.value(.text(words)), .value(.text(specialWords + words))])],
      ], byteLevel(false),
    ]),
  ],
]
private let modelFormat: [String: Wanted] = [
  "type": "BPE", "dropout": .oneOf([nil], orMissing: true), "unk_token": .value(.text(stopToken)),
  "continuing_subword_prefix": .oneOf(["", nil]), "end_of_word_suffix": .value(.text(endOfWord)), "fuse_unk": false,
  "byte_fallback": .oneOf([false], orMissing: true), "ignore_merges": .oneOf([false], orMissing: true),
]
private let addedFormat: [String: Wanted] = [
  "content": .oneOf([.value(.text(startToken)), .value(.text(stopToken))]), "id": .anything, "special": true, "single_word": false,
  "lstrip": false, "rstrip": false, "normalized": .anything,
]

/// CLIP's pieces, made of bytes, between start and end of text.
struct ByteBPE: TextCodec {
  let spec: TextProcessing
  let pieces: [String]
  private let ids: ExactMap<Int>
  private let ranks: [Pair: Int]
  private let added: [[Unicode.Scalar]]

  init(_ spec: TextProcessing, _ values: JSONValue) throws {
    self.spec = spec
    let file = try tokenizerObject(values, "it")
    let model = try tokenizerObject(file["model"], "its model")
    try compare(file, format, ignoring: ["model", "added_tokens"])
    try compare(model, modelFormat, ignoring: ["vocab", "merges"], "model.")
    let (ids, pieces) = try vocabulary(model["vocab"])
    let needed = symbols.flatMap { [String($0), String($0) + endOfWord] } + [startToken, stopToken]
    if let missing = needed.first(where: { !ids.contains($0) }) { throw WrongTokenizer(message: "the vocabulary has no \(missing)") }
    let isPad = [ids[startToken], ids[stopToken]].contains(spec.padID)
    try compareSpec(
      spec,
      [
        ("vocab_size", spec.vocabularySize, pieces.count), ("pad_id", spec.padID, isPad ? spec.padID : nil),
        ("start_id", spec.startID, ids[startToken]), ("stop_id", spec.stopID, ids[stopToken]),
      ])
    if !spec.allowsEmpty { throw WrongTokenizer(message: "empty of the manifest is refuse, it must be allow") }
    (self.ids, self.pieces) = (ids, pieces)
    ranks = try readRanks(model["merges"], ids)
    added = try readAdded(file["added_tokens"], ids)
  }

  func piecesOf(_ text: String) -> [Int] {
    let scalars = Array(text.unicodeScalars)
    var (found, from, at): ([Int], Int, Int) = ([], 0, 0)
    while at < scalars.count {
      guard scalars[at] == "<", let token = added.first(where: { scalars[at...].starts(with: $0) }) else {
        at += 1
        continue
      }
      found += piecesBetween(scalars[from..<at]) + [ids[string(token[...])] ?? 0]
      at += token.count
      from = at
    }
    return found + piecesBetween(scalars[from...])
  }

  func join(_ pieces: [String]) -> String {
    let bytes = pieces.joined().unicodeScalars.compactMap { byteOfSymbol[$0] }
    let text = String(decoding: bytes, as: UTF8.self).replacingOccurrences(of: endOfWord, with: " ", options: .literal)
    let scalars = text.unicodeScalars.drop { $0 == " " }
    return string(Array(scalars.reversed().drop { $0 == " " }.reversed())[...])
  }

  /// Returns the pieces of what stands between special tokens.
  private func piecesBetween(_ scalars: ArraySlice<Unicode.Scalar>) -> [Int] {
    let text = lower(string(scalars).precomposedStringWithCanonicalMapping)
    return wordsOf(Array(text.unicodeScalars)).flatMap { word in
      var merge = Merge(string(word).utf8.map { String(symbols[Int($0)]) }, ranks)
      return merge.merged().compactMap { ids[$0] }
    }
  }
}

private func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String { String(String.UnicodeScalarView(scalars)) }

/// Returns the order of each pair among the merges. Older files write a pair as one text with a blank.
private func readRanks(_ value: JSONValue?, _ ids: ExactMap<Int>) throws -> [Pair: Int] {
  guard let merges = value?.list else { throw WrongTokenizer(message: "model.merges is no list") }
  if merges.count > maxPieces { throw WrongTokenizer(message: "model.merges has more than \(maxPieces) pairs") }
  var ranks: [Pair: Int] = [:]
  ranks.reserveCapacity(merges.count)
  for (rank, merge) in merges.enumerated() {
    let texts = merge.text.map { $0.unicodeScalars.split(separator: " ", omittingEmptySubsequences: false).map { String($0) } }
    let parts = texts ?? (merge.list ?? []).map { $0.text ?? "" }
    let isPair = parts.count == 2 && (parts + [parts.joined()]).allSatisfy(ids.contains)
    if !isPair { throw WrongTokenizer(message: "model.merges has a pair whose parts or whole are no pieces of the vocabulary") }
    if ranks.updateValue(rank, forKey: Pair(parts[0], parts[1])) != nil {
      throw WrongTokenizer(message: "model.merges has the pair \(parts) twice")
    }
  }
  return ranks
}

private func readAdded(_ value: JSONValue?, _ ids: ExactMap<Int>) throws -> [[Unicode.Scalar]] {
  if value == nil || value == .null { return [] }
  guard let tokens = value?.list else { throw WrongTokenizer(message: "added_tokens is no list") }
  return try tokens.enumerated().map { number, token in
    let fields = try tokenizerObject(token, "added_tokens.\(number)")
    try compare(fields, addedFormat, "added_tokens.\(number).")
    let content = fields["content"]?.text ?? ""
    if fields["id"]?.integer != ids[content] { throw WrongTokenizer(message: "added_tokens.\(number).id is not that of the vocabulary") }
    return Array(content.unicodeScalars)
  }
}

/// Returns the words of a text: from left to right an ending, a run of letters, one number, or a run of what is none of these.
private func wordsOf(_ text: [Unicode.Scalar]) -> [ArraySlice<Unicode.Scalar>] {
  var (found, at): ([ArraySlice<Unicode.Scalar>], Int) = ([], 0)
  while at < text.count {
    let kind = Kind(text[at])
    var end = at + 1
    if text[at] == "'", let ending = endings.first(where: { text[at...].starts(with: $0) }) {
      end = at + ending.count
    } else if kind == .letter || kind == .other {
      while end < text.count, Kind(text[end]) == kind { end += 1 }
    }
    if kind != .space { found.append(text[at..<end]) }
    at = end
  }
  return found
}

private enum Kind {
  case letter, number, space, other

  init(_ scalar: Unicode.Scalar) {
    if CodePoints.letters.contains(scalar) {
      self = .letter
    } else if CodePoints.numbers.contains(scalar) {
      self = .number
    } else {
      self = CodePoints.whiteSpace.contains(scalar) ? .space : .other
    }
  }
}

/// The symbol of each byte: those that print are themselves, the others follow from U+0100 on.
private let symbols: [Unicode.Scalar] = {
  var next: UInt32 = 0x100
  return (UInt32(0)..<256).compactMap { byte in
    if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE { return Unicode.Scalar(byte) }
    next += 1
    return Unicode.Scalar(next - 1)
  }
}()
private let byteOfSymbol = Dictionary(symbols.enumerated().map { ($1, UInt8($0)) }) { first, _ in first }
