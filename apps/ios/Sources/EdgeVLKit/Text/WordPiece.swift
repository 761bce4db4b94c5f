import Foundation

private let unknownPiece = "[UNK]"
private let maxWord = 100
private let special = ["[PAD]", unknownPiece, "[CLS]", "[SEP]", "[MASK]"]
private let format: [String: Wanted] = [
  "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": .list([]), "post_processor": nil, "decoder": nil,
  "normalizer": [
    "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true,
  ],
  "pre_tokenizer": ["type": "BertPreTokenizer"],
]
private let modelFormat: [String: Wanted] = [
  "type": "WordPiece", "unk_token": .value(.text(unknownPiece)), "continuing_subword_prefix": "##",
  "max_input_chars_per_word": .value(.integer(100)),
]

/// BERT's pieces between [CLS] and [SEP].
struct WordPiece: TextCodec {
  let spec: TextProcessing
  let pieces: [String]
  private let ids: ExactMap<Int>
  private let unknown: Int

  init(_ spec: TextProcessing, _ values: JSONValue) throws {
    self.spec = spec
    let file = try tokenizerObject(values, "it")
    let model = try tokenizerObject(file["model"], "its model")
    try compare(file, format, ignoring: ["model"])
    try compare(model, modelFormat, ignoring: ["vocab"], "model.")
    (ids, pieces) = try vocabulary(model["vocab"])
    if let missing = special.first(where: { [ids] in !ids.contains($0) }) { throw WrongTokenizer(message: "it has no \(missing) token") }
    unknown = ids[unknownPiece] ?? 0
    try compareSpec(
      spec,
      [
        ("vocab_size", spec.vocabularySize, pieces.count), ("pad_id", spec.padID, ids["[PAD]"]), ("pad_id", spec.padID, 0),
        ("start_id", spec.startID, ids["[CLS]"]), ("stop_id", spec.stopID, ids["[SEP]"]),
      ])
    if spec.allowsEmpty { throw WrongTokenizer(message: "empty of the manifest is allow, it must be refuse") }
  }

  func piecesOf(_ text: String) -> [Int] { words(text).flatMap(piecesOfWord) }

  func join(_ pieces: [String]) -> String {
    pieces.filter { $0 != special[0] }.joined(separator: " ").replacingOccurrences(of: " ##", with: "", options: .literal)
  }

  /// Takes the longest known prefix, again and again; [UNK] for the whole word if one part is unknown.
  private func piecesOfWord(_ word: [Unicode.Scalar]) -> [Int] {
    if word.count > maxWord { return [unknown] }
    var (found, start): ([Int], Int) = ([], 0)
    while start < word.count {
      var end = word.count
      var id: Int?
      while end > start {
        id = ids[text(word[start..<end], isInside: start > 0)]
        if id != nil { break }
        end -= 1
      }
      guard let id else { return [unknown] }
      found.append(id)
      start = end
    }
    return found
  }

  private func text(_ scalars: ArraySlice<Unicode.Scalar>, isInside: Bool) -> String {
    var view = String.UnicodeScalarView(isInside ? ["#", "#"] : [])
    view.append(contentsOf: scalars)
    return String(view)
  }

  private func words(_ text: String) -> [[Unicode.Scalar]] {
    var spaced = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if CodePoints.blank.contains(scalar) {
        spaced.append(" ")
      } else if CodePoints.cjk.contains(scalar) {
        spaced.append(contentsOf: [" ", scalar, " "])
      } else if !CodePoints.removed.contains(scalar) {
        spaced.append(scalar)
      }
    }
    let decomposed = String(spaced).decomposedStringWithCanonicalMapping.unicodeScalars
    let plain = String(String.UnicodeScalarView(decomposed.filter { !CodePoints.marks.contains($0) }))
    var parted: [Unicode.Scalar] = []
    for scalar in lower(plain).unicodeScalars {
      parted += CodePoints.punctuation.contains(scalar) ? [" ", scalar, " "] : [scalar]
    }
    return parted.split(separator: " ").map(Array.init)
  }
}
