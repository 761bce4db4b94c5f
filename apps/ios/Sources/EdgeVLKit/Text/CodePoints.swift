import EdgeVLPacked

/// A set of code points: inclusive ranges, in order.
struct CodePoints: Sendable {
  private let starts: [UInt32]
  private let ends: [UInt32]

  fileprivate init(_ ranges: [(UInt32, UInt32)]) {
    starts = ranges.map(\.0)
    ends = ranges.map(\.1)
  }

  func contains(_ scalar: Unicode.Scalar) -> Bool {
    var (low, high) = (0, starts.count)
    while low < high {
      let middle = (low + high) / 2
      if ends[middle] < scalar.value { low = middle + 1 } else { high = middle }
    }
    return low < starts.count && starts[low] <= scalar.value
  }

  static let removed = named("removed")
  static let blank = named("blank")
  static let cjk = named("cjk")
  static let marks = named("marks")
  static let punctuation = named("punctuation")
  static let letters = named("letters")
  static let numbers = named("numbers")
  static let whiteSpace = named("white space")

  /// The sets of docs/bundle.md. They do not move with the version of Unicode that a platform has.
  static let all: [String: CodePoints] = read()

  private static func named(_ name: String) -> CodePoints { all[name] ?? CodePoints([]) }

  private static func read() -> [String: CodePoints] {
    var found: [String: [(UInt32, UInt32)]] = [:]
    var name = ""
    for line in String(decoding: Packed.codePoints, as: UTF8.self).split(separator: "\n") where !line.hasPrefix("#") {
      if line.hasPrefix("= ") {
        name = String(line.dropFirst(2))
        continue
      }
      for range in line.split(separator: " ") {
        let numbers = range.split(separator: "-").compactMap { UInt32($0, radix: 16) }
        if let first = numbers.first, let last = numbers.last { found[name, default: []].append((first, last)) }
      }
    }
    return found.mapValues(CodePoints.init)
  }
}
