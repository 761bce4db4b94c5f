import Foundation

/// What the user of an app must hear, as one line that any screen takes.
public enum EdgeVLError: Error, Equatable, Sendable {
  /// The bundle is not as it must be: damaged, hostile, or newer than this library. Copy it again, or update.
  case bundleRefused(String)
  /// What was asked cannot be answered: a picture or a text that does not fit, too few of them.
  case badInput(String)
}

extension EdgeVLError: LocalizedError, CustomStringConvertible {
  public var errorDescription: String? { description }

  public var description: String {
    switch self {
    case .bundleRefused(let message), .badInput(let message): return message
    }
  }
}

/// Throws that the bundle is not as it must be. Runtimes of your own use it, too.
public func refuse(_ message: String) throws -> Never { throw EdgeVLError.bundleRefused(plain(message)) }

func badInput(_ message: String) throws -> Never { throw EdgeVLError.badInput(plain(message)) }

private let longestMessage = 2000

/// Returns one line without control characters: a bundle may hold any, and names of it stand in messages.
func plain(_ text: String) -> String {
  var line = String.UnicodeScalarView()
  for scalar in text.unicodeScalars.prefix(longestMessage) {
    if scalar.properties.isWhitespace {
      line.append(" ")
    } else if shows(scalar) {
      line.append(scalar)
    } else {
      line.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
    }
  }
  return String(line)
}

private func shows(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.properties.generalCategory {
  case .control, .format, .surrogate, .privateUse, .unassigned: return false
  default: return true
  }
}

extension String {
  /// The first scalars of a text, for messages.
  var shown: String { String(String.UnicodeScalarView(unicodeScalars.prefix(80))) }
}
