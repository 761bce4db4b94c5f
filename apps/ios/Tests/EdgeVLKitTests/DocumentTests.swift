import Foundation
import XCTest

@testable import EdgeVLKit

/// docs/ios.md: its code is code that was compiled.
final class DocumentTests: XCTestCase {
  private func lines(_ path: String) throws -> [String] {
    let repository = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../../..").standardized
    let text = try String(contentsOf: repository.appendingPathComponent(path), encoding: .utf8)
    return text.components(separatedBy: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
  }

  func testCodeOfTheDocumentIsCompiledCode() throws {
    let compiled = try lines("apps/ios/Tests/EdgeVLKitTests/TenLines.swift").joined(separator: "\n")
    var (blocks, block): ([String], [String]?) = ([], nil)
    for line in try lines("docs/ios.md") {
      if let open = block, line == "```" {
        blocks.append(open.joined(separator: "\n"))
        block = nil
      } else if block != nil {
        block?.append(line)
      } else if line == "```swift" {
        block = []
      }
    }
    XCTAssertGreaterThanOrEqual(blocks.count, 4)
    for block in blocks { XCTAssertTrue(compiled.contains(block), block) }
  }

  func testTheTenLinesAnswer() async throws {
    let model = try Fixtures.open("nano-fp32-split")
    let picture = try Fixtures.pictures(model)[0]
    let texts = model.bundle.exampleTexts
    let answers = try await TenLines.ask(model, picture, texts)
    let whole = try await model.answer(Query(pictures: [picture], texts: texts))
    XCTAssertEqual(answers, whole.words)
  }
}
