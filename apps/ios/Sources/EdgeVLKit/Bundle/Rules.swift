/// Says where the paths and the programs of a manifest break the rules of docs/bundle.md; nil if they keep them.
func manifestProblem(_ manifest: Manifest) -> String? {
  pathsProblem(manifest) ?? programsProblem(manifest) ?? filesProblem(manifest)
}

private func pathsProblem(_ manifest: Manifest) -> String? {
  let files = manifest.files.keys
  let artifacts = manifest.programs.map(\.artifact)
  if let missing = manifest.texts.first(where: { !manifest.files.contains($0) }) { return "'\(missing)' is not among the files" }
  for artifact in artifacts {
    if !files.contains(where: { isInside($0, artifact) }) { return "the artifact '\(artifact)' is not among the files" }
    if artifacts.filter({ isInside($0, artifact) }).count > 1 { return "the artifact '\(artifact)' is there twice, or holds another" }
  }
  if manifest.files.contains(manifestName) { return "\(manifestName) cannot hold its own digest" }
  var known = ExactMap<Bool>()
  for file in files { known[folded(file)] = true }
  return known.count == files.count ? nil : "two files differ only in upper and lower case, or in how Unicode spells them"
}

private func programsProblem(_ manifest: Manifest) -> String? {
  let programs = manifest.programs
  if Set(programs.map(\.name)).count != programs.count { return "two programs have one name" }
  if !programs.contains(where: { $0.precision == manifest.precision }) { return "no program is of the precision \(manifest.precision)" }
  if let problem = first(manifest.imageProcessing.values, edgeProblem) ?? callsProblem(programs) { return problem }
  return first(programs) { programProblem($0) ?? inputsProblem($0, manifest) }
}

/// Returns the first problem of some items.
private func first<Item>(_ items: [Item], _ problem: (Item) -> String?) -> String? {
  for item in items { if let found = problem(item) { return found } }
  return nil
}

private func edgeProblem(_ processing: ImageProcessing) -> String? {
  guard let edge = processing.shortestEdge else { return nil }
  if processing.geometry != "shortest-edge" { return "shortest_edge does not go with the geometry \(processing.geometry)" }
  return edge < processing.size ? "shortest_edge \(edge) is below the size \(processing.size)" : nil
}

private func callsProblem(_ programs: [Program]) -> String? {
  let outputs = programs.flatMap(\.outputs)
  let given = Dictionary(outputs.map { ($0.name, $0) }) { first, _ in first }
  if given.count != outputs.count { return "two programs give a value of the same name" }
  let loops = programs.filter { $0.inputs.contains { $0.source.isOfALoop } }.flatMap(\.outputs).map(\.name)
  for program in programs {
    for input in program.inputs {
      guard let name = input.source.needed else { continue }
      let place = "\(program.name): \(input.tensor.name) needs the value \(name)"
      if loops.contains(name) { return "\(place), which a loop gives" }
      if !isSameRow(input.tensor, given[name]) { return "\(place), which no program gives so" }
    }
  }
  return cyclic(programs).map { "\($0) depends on itself" }
}

private func isSameRow(_ spec: TensorSpec, _ other: TensorSpec?) -> Bool {
  other.map { spec.dtype == $0.dtype && spec.shape.dropFirst() == $0.shape.dropFirst() } ?? false
}

/// Returns the name of a program that is never ready, whatever is computed first; nil if there is none.
private func cyclic(_ programs: [Program]) -> String? {
  var waiting = programs
  while true {
    let missing = Set(waiting.flatMap(\.outputs).map(\.name))
    let stuck = waiting.filter { $0.inputs.contains { $0.source.needed.map(missing.contains) ?? false } }
    if stuck.count == waiting.count { return waiting.first?.name }
    waiting = stuck
  }
}

private func programProblem(_ program: Program) -> String? {
  let tensors = program.tensors
  if Set(tensors.map(\.name)).count != tensors.count { return "\(program.name) has two tensors of one name" }
  if Set(tensors.map { $0.shape[0] }).count != 1 { return "the tensors of \(program.name) have different batches" }
  let misfit = tensors.first { $0.layout.utf8.count != $0.shape.count }
  return misfit.map { "\(program.name): the layout '\($0.layout)' of \($0.name) does not fit its shape" }
}

private func inputsProblem(_ program: Program, _ manifest: Manifest) -> String? {
  let loops = program.name == manifest.decoding["program"]?.text
  for input in program.inputs {
    let (place, kind) = ("\(program.name): \(input.tensor.name)", input.source.kind)
    if input.source.isOfALoop && !loops { return "\(place) is a \(kind), which only the program of a loop may read" }
    if input.tensor.isImage && kind != "picture" { return "\(place) is said to be a picture, but is a \(kind)" }
    if let problem = sourceProblem(program, input, manifest) { return "\(place) \(problem)" }
  }
  return nil
}

private func sourceProblem(_ program: Program, _ input: InputSpec, _ manifest: Manifest) -> String? {
  let spec = input.tensor
  switch input.source {
  case .value: return nil
  case .state(let name, _):
    let other = program.outputs.first { $0.name == name }
    return other?.dtype == spec.dtype && other?.shape == spec.shape ? nil : "does not fit an output \(name)"
  case .picture(_, let name):
    guard let processing = manifest.imageProcessing[name] else { return missing(name) }
    return isPicture(spec, processing.size) ? nil : "is not what a picture of \(processing.size) pixels is"
  case .text(_, let name, let isMask):
    guard let processing = manifest.textProcessing[name] else { return missing(name) }
    let range = [0, isMask ? 1 : Double(processing.vocabularySize - 1)]
    let fits = spec.dtype.isWhole && spec.layout == "NT" && spec.shape == [program.batch, processing.length]
    return fits && spec.range == range ? nil : "is not what a text of \(processing.length) tokens is"
  case .token, .step:
    let shapes = ["NT": [program.batch, 1], "N": [program.batch]]
    let fits = spec.dtype.isWhole && spec.shape == shapes[spec.layout] && (spec.range?[0] ?? 0) == 0
    return fits ? nil : "is not what a \(input.source.kind) is"
  }
}

private func missing(_ processing: String) -> String { "names the processing '\(processing)', there is none" }

private func isPicture(_ spec: TensorSpec, _ size: Int) -> Bool {
  let batch = spec.shape[0]
  if spec.range != [0, 255] { return false }
  if spec.isImage { return spec.dtype == .float32 && spec.layout == "NCHW" && spec.shape == [batch, 3, size, size] }
  return spec.dtype == .uint8 && spec.layout == "NHWC" && spec.shape == [batch, size, size, 3]
}
