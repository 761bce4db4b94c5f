import Foundation
import XCTest

@testable import EdgeVLKit

final class GoldenTests: XCTestCase {
  /// Every bundle of the suite (fp32 and w8a8, one program and two, every decoding), and those of schema 1 and 2 that the
  /// damaged ones were made from.
  func testGoldenCasesOfEveryBundle() throws {
    var replayed: [String: Int] = [:]
    for folder in ["conformance/bundles", "mutants/bases"] {
      let parent = Fixtures.folder.appendingPathComponent(folder)
      for name in try FileManager.default.contentsOfDirectory(atPath: parent.path) where name.hasSuffix(".edgevl") {
        let bundle = try ModelBundle(at: parent.appendingPathComponent(name))
        replayed[name] = try replayedGolden(EdgeVLModel(bundle, runtime: Fixtures.runtime()))
      }
    }
    XCTAssertGreaterThanOrEqual(replayed.count, 20)
    XCTAssertTrue(replayed.values.allSatisfy { $0 >= 1 }, "\(replayed)")
  }

  func testDamagedBundlesAreRefusedWhereTheBoardRefusesThemAndOnlyThere() throws {
    let folder = Fixtures.folder.appendingPathComponent("mutants")
    let text = try Data(contentsOf: folder.appendingPathComponent("verdicts.json"))
    let verdicts = try XCTUnwrap(strictJSON(Array(text)).object)
    var differ: [String] = []
    for name in verdicts.keys where verdicts[name] != "crashed" {
      let verdict = try verdicts.text(name)
      let number = name.prefix { $0 != ":" }
      let own = verdictOn(folder.appendingPathComponent("\(number)/x.edgevl"))
      if own.prefix(while: { $0 != ":" }) != verdict { differ.append("\(name): \(verdict) on the board, here \(own)") }
    }
    print("damaged bundles: \(verdicts.count - differ.count) of \(verdicts.count) as on the board")
    XCTAssertEqual(differ, [], "of \(verdicts.count)")
  }

  private func verdictOn(_ folder: URL) -> String {
    do {
      _ = try replayedGolden(EdgeVLModel(ModelBundle(at: folder), runtime: Fixtures.runtime()))
      return "fine"
    } catch let error as EdgeVLError {
      return "refused: \(error)"
    } catch {
      return "failed: \(error)"
    }
  }
}
