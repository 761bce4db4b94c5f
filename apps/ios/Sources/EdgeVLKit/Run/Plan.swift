private let maxCalls = 4096

/// Where an input of a call comes from.
indirect enum Origin: Hashable, Sendable {
  case pixels(processing: String, index: Int)
  case ids(processing: String, index: Int, isMask: Bool)
  case output(Output)
  /// An output of the step before; in the first step a value, or zeros.
  case state(name: String, start: Output?)
  case token
  case step
}

/// An output of a call, by the call's number in its plan.
struct Output: Hashable, Sendable {
  let call: Int
  let name: String
}

/// One call of a program. Calls with the same inputs are the same call: what two have in common is computed once.
struct Call: Hashable, Sendable {
  let program: Program
  let origins: [Origin]
  /// Does it depend on no text? Then it belongs to the pictures alone.
  let isOfPictures: Bool

  static func == (one: Call, other: Call) -> Bool { one.program.name == other.program.name && one.origins == other.origins }

  func hash(into hasher: inout Hasher) {
    hasher.combine(program.name)
    hasher.combine(origins)
  }
}

/// A call that is repeated, once for each token, until the stop token or for so many steps.
struct Loop: Sendable {
  let call: Call
  let output: String
  let start: Int
  let stop: Int
  let steps: Int
}

/// The calls for a query with so many pictures and texts, from the sources of the manifest alone.
struct Plan: Sendable {
  let pictures: Int
  let texts: Int
  /// Each before those that need it.
  private(set) var calls: [Call] = []
  /// What the decoding reads of each output.
  private(set) var rows: [String: [Output]] = [:]
  private(set) var loop: Loop?
  private let programs: [Program]
  private var known: [Key: Output] = [:]
  private var numbers: [Call: Int] = [:]

  private struct Key: Hashable, Sendable {
    let name: String
    let pictures: [Int]
    let texts: [Int]
  }

  init(_ programs: [Program], pictures: Int, texts: Int) {
    self.programs = programs
    self.pictures = pictures
    self.texts = texts
  }

  /// Plans a row of an output, for these pictures and texts. Throws where the query has too few of them.
  mutating func read(_ output: String, pictures: [Int], texts: [Int]) throws {
    rows[output, default: []].append(try value(output, pictures, texts))
  }

  /// Plans a row of an output for each text, or one for the pictures alone where there is none.
  mutating func readOfEachText(_ output: String) throws {
    let all = Array(0..<pictures)
    if texts == 0 { try read(output, pictures: all, texts: []) }
    for text in 0..<texts { try read(output, pictures: all, texts: [text]) }
  }

  /// Plans a sequence of tokens, for all pictures and texts of the query.
  mutating func repeating(_ program: String, output: String, start: Int, stop: Int, steps: Int) throws {
    guard let found = programs.first(where: { $0.name == program }) else { try refuse("there is no program \(program)") }
    let call = try call(found, Array(0..<pictures), Array(0..<texts))
    loop = Loop(call: call, output: output, start: start, stop: stop, steps: steps)
  }

  private mutating func value(_ name: String, _ pictures: [Int], _ texts: [Int]) throws -> Output {
    let key = Key(name: name, pictures: pictures, texts: texts)
    if let output = known[key] { return output }
    if known.count >= maxCalls { try refuse("the sources of the programs make more than \(maxCalls) calls for one query") }
    guard let program = programs.first(where: { $0.outputs.contains { $0.name == name } }) else {
      try refuse("no program gives the value \(name)")
    }
    if program.inputs.contains(where: { $0.source.isOfALoop }) { try refuse("the value \(name) is read outside of the loop that gives it") }
    let call = try call(program, pictures, texts)
    let number = numbers[call] ?? calls.count
    if number == calls.count {
      calls.append(call)
      numbers[call] = number
    }
    let output = Output(call: number, name: name)
    known[key] = output
    return output
  }

  private mutating func call(_ program: Program, _ pictures: [Int], _ texts: [Int]) throws -> Call {
    var origins: [Origin] = []
    for input in program.inputs { origins.append(try origin(input.source, pictures, texts)) }
    let isOfPictures = origins.allSatisfy {
      switch $0 {
      case .pixels: return true
      case .output(let output): return calls[output.call].isOfPictures
      default: return false
      }
    }
    return Call(program: program, origins: origins, isOfPictures: isOfPictures)
  }

  private mutating func origin(_ source: Source, _ pictures: [Int], _ texts: [Int]) throws -> Origin {
    switch source {
    case .picture(let index, let processing): return .pixels(processing: processing, index: try chosen(pictures, [index], "picture")[0])
    case .text(let index, let processing, let isMask):
      return .ids(processing: processing, index: try chosen(texts, [index], "text")[0], isMask: isMask)
    case .value(let name, let few, let some):
      return .output(try value(name, chosen(pictures, few, "picture"), chosen(texts, some, "text")))
    case .state(let name, let start):
      guard let start else { return .state(name: name, start: nil) }
      return .state(name: name, start: try value(start, pictures, texts))
    case .token: return .token
    case .step: return .step
    }
  }
}

private func chosen(_ items: [Int], _ wanted: [Int]?, _ what: String) throws -> [Int] {
  try (wanted ?? Array(items.indices)).map { index in
    guard items.indices.contains(index) else {
      try badInput("the model reads \(what) \(index + 1) of a query, this one has \(items.count)")
    }
    return items[index]
  }
}
