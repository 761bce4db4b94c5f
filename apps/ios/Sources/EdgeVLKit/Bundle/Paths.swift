import Foundation

private let longestPath = 255
private let devices: Set<String> = ["con", "prn", "aux", "nul", "conin$", "conout$"]

/// Says why `path` may not only name a file inside its folder, on every system; nil if it can name nothing else.
@Sendable func pathProblem(_ path: String) -> String? {
  let scalars = path.unicodeScalars
  let parts = scalars.split(separator: "/", omittingEmptySubsequences: false).map { String($0) }
  if scalars.isEmpty || scalars.count > longestPath || scalars.contains(where: isForbidden) {
    return "'\(path.shown)' is not a plain relative path"
  }
  if scalars.first == "~" || parts.contains(where: { ["", ".", ".."].containsExactly($0) }) {
    return "'\(path.shown)' leaves the bundle's folder"
  }
  return parts.contains(where: isOtherOnWindows) ? "'\(path.shown)' names something else on Windows" : nil
}

private func isForbidden(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar {
  case "<", ">", ":", "\"", "|", "?", "*", "\\", "\u{2028}", "\u{2029}": return true
  default: return scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
  }
}

private func isOtherOnWindows(_ part: String) -> Bool {
  if part.endsExactly(with: ".") || part.endsExactly(with: " ") { return true }
  var stem = part.unicodeScalars.prefix { $0 != "." }
  while stem.last == " " { stem.removeLast() }
  let name = String(stem).lowercased()
  if devices.contains(name) { return true }
  let isPort = name.startsExactly(with: "com") || name.startsExactly(with: "lpt")
  let digits = name.unicodeScalars.dropFirst(3)
  return isPort && digits.count == 1 && "0123456789\u{B9}\u{B2}\u{B3}".unicodeScalars.contains(digits.first!)
}

/// Says why `name` is not the name of a folder; nil if it is.
@Sendable func folderNameProblem(_ name: String) -> String? {
  let isBad = ["", ".", ".."].containsExactly(name) || name.unicodeScalars.contains { ["/", "\\", "\0"].contains($0) }
  return isBad ? "'\(name.shown)' is not the name of a model folder" : nil
}

/// What `format` of the schema means.
let formats: [String: @Sendable (String) -> String?] = ["relative-path": pathProblem, "folder-name": folderNameProblem]

/// Returns a path as file systems compare them that ignore case: composed, then with Unicode's full case folding. The
/// platform has no case folding, and lower of upper of lower case is the same but for the dotless i.
func folded(_ path: String) -> String {
  var result = ""
  for scalar in path.precomposedStringWithCanonicalMapping.unicodeScalars {
    result += scalar == "\u{131}" ? "\u{131}" : lower(upper(lower(String(scalar))))
  }
  return result
}

private func upper(_ text: String) -> String { text.unicodeScalars.reduce(into: "") { $0 += $1.properties.uppercaseMapping } }
