let manifestName = "manifest.json"
let cardName = "README.md"
let domainName = "domain.json"

private let mebibyte = 1 << 20
let maxTextBytes = 16 * mebibyte
private let maxDomainBytes = mebibyte
private let maxPictureBytes = 256 * mebibyte

/// What the artifact of each target is called that runs here.
private let endings = ["coreml": ".mlpackage", "onnx": ".onnx"]

/// Says which file `manifest` lists that no bundle may hold, or not so; nil if there is none.
func filesProblem(_ manifest: Manifest) -> String? {
  guard let ending = endings[manifest.target] else {
    return "it is for \(manifest.target), and here run only \(endings.keys.sorted().joined(separator: ", ")): export it again"
  }
  if let other = manifest.texts.first(where: { !$0.endsExactly(with: ".json") }) { return "\(other) is not named .json" }
  let artifacts = manifest.programs.map(\.artifact)
  if let other = artifacts.first(where: { !$0.endsExactly(with: ending) }) { return "\(other) is not named \(ending)" }
  for name in manifest.files.keys {
    if let entry = manifest.files[name], let problem = fileProblem(manifest, name, entry) { return problem }
  }
  return nil
}

private func fileProblem(_ manifest: Manifest, _ name: String, _ entry: FileEntry) -> String? {
  if let limit = sizeLimit(manifest, name), entry.bytes > limit { return "\(name) has more than \(limit / mebibyte) MiB" }
  let isKnown = [cardName, domainName].containsExactly(name) || manifest.texts.containsExactly(name)
  if isKnown || isOfAnArtifact(manifest, name) || name.endsExactly(with: ".png") { return nil }
  return "\(name) has no part in a bundle for \(manifest.target)"
}

private func isOfAnArtifact(_ manifest: Manifest, _ name: String) -> Bool {
  manifest.programs.contains { isInside(name, $0.artifact) }
}

/// Is a path a folder, or something in it?
func isInside(_ path: String, _ folder: String) -> Bool { "\(path)/".startsExactly(with: "\(folder)/") }

/// Returns the largest size of a file, nil of an artifact.
private func sizeLimit(_ manifest: Manifest, _ name: String) -> Int? {
  if isOfAnArtifact(manifest, name) { return nil }
  if name.isExactly(domainName) { return maxDomainBytes }
  return name.isExactly(cardName) || manifest.texts.containsExactly(name) ? maxTextBytes : maxPictureBytes
}

/// Says which file is there and not in `manifest`, or not a plain one; nil if all are listed.
func folderProblem(_ manifest: Manifest, _ found: ExactMap<Bool>) -> String? {
  for name in found.keys {
    if found[name] != true { return "\(name) is a link, or no plain file" }
    if !manifest.files.contains(name) && !isIgnored(name) { return "\(name) is not in the manifest" }
  }
  return nil
}

private func isIgnored(_ name: String) -> Bool {
  let file = name.unicodeScalars.split(separator: "/").last.map { String($0) } ?? ""
  return [manifestName, cardName].containsExactly(name) || file.isExactly(".DS_Store") || isLeftover(name)
}

/// Is it what an interrupted measurement may leave, such as `.README.md.tmp-12-0af3`?
private func isLeftover(_ name: String) -> Bool {
  for file in [manifestName, cardName] where name.startsExactly(with: ".\(file).tmp-") {
    let parts = name.utf8.dropFirst(file.utf8.count + 6).split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return false }
    let isDecimal = parts[0].allSatisfy { (hexadecimalDigit($0) ?? 16) < 10 }
    return isDecimal && parts[1].allSatisfy { hexadecimalDigit($0) != nil && !(UInt8(ascii: "A")...UInt8(ascii: "F")).contains($0) }
  }
  return false
}
