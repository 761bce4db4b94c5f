/// The numbers that the decoding reads: output -> rows.
public typealias Values = [String: [[Float]]]

typealias Outputs = [String: Tensor]

/// Pulls values through the sources of a manifest for one query.
final class Evaluation {
  private let bundle: ModelBundle
  private let sessions: [String: any Session]
  private let plan: Plan
  private let pictures: [Picture]
  private let texts: [String]
  /// What each call gave, by its number in the plan; at first what was computed for these pictures before.
  private(set) var outputs: [Int: Outputs]
  private var pixels: [Origin: [UInt8]] = [:]
  private var ids: [Origin: [Int]] = [:]
  /// How often each program ran.
  private(set) var runs: [String: Int] = [:]

  init(_ bundle: ModelBundle, _ sessions: [String: any Session], _ plan: Plan, _ query: Query, memory: [Int: Outputs] = [:]) {
    self.bundle = bundle
    self.sessions = sessions
    self.plan = plan
    pictures = query.pictures
    texts = query.texts
    outputs = memory
  }

  /// Returns the values of the plan. `along`: tokens that a sequence follows at every step, whatever is best here.
  func values(along: [Int]? = nil) throws -> Values {
    for number in plan.calls.indices { _ = try output(number) }
    if let loop = plan.loop { return [loop.output: try rows(of: loop, along)] }
    return try plan.rows.mapValues { try $0.map { try tensor($0).firstRow() } }
  }

  /// Runs what belongs to the pictures alone, and returns it.
  func ofPictures() throws -> [Int: Outputs] {
    for (number, call) in plan.calls.enumerated() where call.isOfPictures { _ = try output(number) }
    return outputs
  }

  private func output(_ number: Int) throws -> Outputs {
    if let known = outputs[number] { return known }
    let found = try run(plan.calls[number])
    outputs[number] = found
    return found
  }

  private func tensor(_ output: Output) throws -> Tensor { try tensor(output.name, self.output(output.call)) }

  private func tensor(_ name: String, _ outputs: Outputs) throws -> Tensor {
    guard let tensor = outputs[name] else { try refuse("the artifact gives no value \(name)") }
    return tensor
  }

  private func run(_ call: Call, states: Outputs = [:], token: Int = 0, step: Int = 0) throws -> Outputs {
    var inputs: Outputs = [:]
    for (input, origin) in zip(call.program.inputs, call.origins) {
      let spec = input.tensor
      switch origin {
      case .pixels(let processing, let index): inputs[spec.name] = try Tensor(spec, pixels: pixels(origin, processing, index))
      case .ids(let processing, let index, let isMask): inputs[spec.name] = try Tensor(spec, ids: ids(origin, processing, index, isMask))
      case .output(let output): inputs[spec.name] = try tensor(output).fitted(spec)
      case .state: inputs[spec.name] = try tensor(spec.name, states)
      case .token: inputs[spec.name] = try Tensor(spec, ids: [token])
      case .step: inputs[spec.name] = try Tensor(spec, ids: [step])
      }
    }
    let program = call.program
    guard let found = try sessions[program.name]?.run(inputs) else { try refuse("the program \(program.name) is not open") }
    runs[program.name, default: 0] += 1
    let fits = program.outputs.allSatisfy { found[$0.name]?.shape == $0.shape && found[$0.name]?.dtype == $0.dtype }
    if !fits { try refuse("\(program.artifact) gives other values than the manifest says") }
    return found
  }

  private func rows(of loop: Loop, _ along: [Int]?) throws -> [[Float]] {
    let carried = zip(loop.call.program.inputs, loop.call.origins).compactMap { input, origin -> (TensorSpec, String, Output?)? in
      if case .state(let name, let start) = origin { return (input.tensor, name, start) } else { return nil }
    }
    var states: Outputs = [:]
    for (spec, _, start) in carried { states[spec.name] = try start.map { try tensor($0).fitted(spec) } ?? Tensor(zerosOf: spec) }
    var token = loop.start
    var rows: [[Float]] = []
    for step in 0..<min(loop.steps, along?.count ?? loop.steps) {
      let found = try run(loop.call, states: states, token: token, step: step)
      let row = try tensor(loop.output, found).firstRow()
      rows.append(row)
      token = along?[step] ?? indexOfLargest(row)
      if token == loop.stop { break }
      for (spec, name, _) in carried { states[spec.name] = try tensor(name, found) }
    }
    return rows
  }

  private func pixels(_ origin: Origin, _ processing: String, _ index: Int) throws -> [UInt8] {
    if let known = pixels[origin] { return known }
    guard let spec = bundle.manifest.imageProcessing[processing] else { try refuse("there is no image processing \(processing)") }
    let found = try spec.pixels(of: pictures[index])
    pixels[origin] = found
    return found
  }

  private func ids(_ origin: Origin, _ processing: String, _ index: Int, _ isMask: Bool) throws -> [Int] {
    if let known = ids[origin] { return known }
    guard let codec = bundle.codecs[processing] else { try refuse("there is no text processing \(processing)") }
    let found = try isMask ? codec.mask(texts[index]) : codec.encode(texts[index])
    ids[origin] = found
    return found
  }
}

/// Of equal numbers the first is the largest.
func indexOfLargest(_ row: [Float]) -> Int {
  var best = 0
  for index in row.indices where row[index] > row[best] { best = index }
  return best
}
