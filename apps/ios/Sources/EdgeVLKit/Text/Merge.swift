/// Two neighbors, compared byte by byte.
struct Pair: Hashable, Sendable {
  private let left: ExactKey
  private let right: ExactKey

  init(_ left: String, _ right: String) {
    self.left = ExactKey(text: left)
    self.right = ExactKey(text: right)
  }
}

/// The symbols of one word, merged by rank. A heap holds the pairs that may be joined: a word of 10 000 letters would
/// take minutes if all pairs were looked through after each merge.
struct Merge {
  private let ranks: [Pair: Int]
  private var parts: [String?]
  private var next: [Int]
  private var before: [Int]
  private var waiting: [Candidate] = []

  private struct Candidate {
    let rank: Int
    let at: Int
    let pair: Pair

    func comesBefore(_ other: Candidate) -> Bool { (rank, at) < (other.rank, other.at) }
  }

  init(_ symbols: [String], _ ranks: [Pair: Int]) {
    self.ranks = ranks
    parts = symbols
    if let last = symbols.last { parts[symbols.count - 1] = last + endOfWord }
    next = symbols.indices.map { $0 + 1 }
    before = symbols.indices.map { $0 - 1 }
  }

  /// Joins the pair that stands first among the merges, of equal ones the leftmost, until there is none.
  mutating func merged() -> [String] {
    for at in parts.indices { note(at) }
    while let candidate = popped() {
      let follower = next[candidate.at]
      guard let left = parts[candidate.at], follower < parts.count, let right = parts[follower] else { continue }
      if Pair(left, right) == candidate.pair { join(candidate.at, follower) }
    }
    return parts.compactMap { $0 }
  }

  private mutating func join(_ at: Int, _ follower: Int) {
    parts[at] = (parts[at] ?? "") + (parts[follower] ?? "")
    parts[follower] = nil
    next[at] = next[follower]
    if next[at] < parts.count { before[next[at]] = at }
    if before[at] >= 0 { note(before[at]) }
    note(at)
  }

  /// Puts the pair that begins here into the heap, if it is among the merges.
  private mutating func note(_ at: Int) {
    guard let left = parts[at], next[at] < parts.count, let right = parts[next[at]] else { return }
    let pair = Pair(left, right)
    if let rank = ranks[pair] { push(Candidate(rank: rank, at: at, pair: pair)) }
  }

  private mutating func push(_ candidate: Candidate) {
    waiting.append(candidate)
    var at = waiting.count - 1
    while at > 0, waiting[at].comesBefore(waiting[(at - 1) / 2]) {
      waiting.swapAt(at, (at - 1) / 2)
      at = (at - 1) / 2
    }
  }

  private mutating func popped() -> Candidate? {
    guard let first = waiting.first, let last = waiting.popLast() else { return nil }
    if waiting.isEmpty { return first }
    waiting[0] = last
    var at = 0
    while true {
      let children = [2 * at + 1, 2 * at + 2].filter { $0 < waiting.count }
      guard let least = children.min(by: { waiting[$0].comesBefore(waiting[$1]) }), waiting[least].comesBefore(waiting[at]) else {
        return first
      }
      waiting.swapAt(at, least)
      at = least
    }
  }
}
