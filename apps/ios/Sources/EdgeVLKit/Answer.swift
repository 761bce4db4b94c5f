/// Pictures and texts, in order. How many a model reads, its bundle says.
public struct Query: Sendable {
  public let pictures: [Picture]
  public let texts: [String]

  public init(pictures: [Picture], texts: [String] = []) {
    self.pictures = pictures
    self.texts = texts
  }
}

/// One of the labels that a model chooses from, and its share of the scores, 0 to 1.
public struct Choice: Equatable, Sendable {
  public let label: String
  public let share: Double
}

/// What a bundle says of a query.
public struct Answer: Sendable {
  /// Labels, numbers of texts, token ids, or boxes, by the bundle's decoding.
  public let result: [Decision]
  /// The same in words.
  public let words: [String]
  /// How far each decision was from another one.
  public let margins: [Double]
  /// The numbers behind it: output -> rows.
  public let values: Values
  /// Of each row of scores, after the activation; nil where nothing is chosen.
  public let shares: [[Double]]?
  /// How often each program ran.
  public let runs: [String: Int]
  public let milliseconds: Double
  let labels: [String]

  /// The first decision in words: the answer to one question, a caption, the best text.
  public var text: String { words.first ?? "" }

  /// Returns the best choices of the first decision, largest share first.
  public func choices(_ count: Int = 5) -> [Choice] {
    let row = shares?.first ?? []
    let order = row.indices.sorted { (-row[$0], $0) < (-row[$1], $1) }
    return order.prefix(count).filter(labels.indices.contains).map { Choice(label: labels[$0], share: row[$0]) }
  }
}
