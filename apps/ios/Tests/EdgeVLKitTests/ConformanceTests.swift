import Foundation
import XCTest

@testable import EdgeVLKit

private let shareStep = 1e-5

/// docs/conformance.md, case by case: every kind must be there, and every case must pass.
final class ConformanceTests: XCTestCase {
  private let suite = try! Suite()

  private func all(_ kind: String, least: Int, _ check: (JSONObject) throws -> String?) throws {
    let cases = try suite.cases(kind)
    XCTAssertGreaterThanOrEqual(cases.count, least)
    var failed: [String] = []
    for case_ in cases {
      let name = try case_["id"]?.text ?? case_.text("bundle")
      do {
        if let problem = try check(case_) { failed.append("\(name): \(problem)") }
      } catch let error as EdgeVLError {
        failed.append("\(name): refused: \(error)")
      }
    }
    print("conformance, \(kind): \(cases.count - failed.count) of \(cases.count)")
    XCTAssertEqual(failed, [], "of \(cases.count)")
  }

  private func refused(_ work: () throws -> Void) throws -> String? {
    do {
      try work()
      return "must be refused"
    } catch is EdgeVLError {
      return nil
    }
  }

  func testPicturesBecomeTheSamePixels() throws {
    var bundles: [String: ModelBundle] = [:]
    try all("pixels", least: 100) { case_ in
      let name = try case_.text("bundle")
      let bundle = try bundles[name] ?? suite.bundle(name)
      bundles[name] = bundle
      let spec = try XCTUnwrap(bundle.manifest.imageProcessing[case_.text("processing")])
      for read in try suite.ways(case_.text("picture")) {
        guard let wanted = case_["sha256"]?.text else {
          if let problem = try refused({ _ = try spec.pixels(of: read()) }) { return problem }
          continue
        }
        if try Digest.of(spec.pixels(of: read())) != wanted { return "other pixels" }
      }
      return nil
    }
  }

  func testTextsBecomeTheSameTokenIDs() throws {
    var bundles: [String: ModelBundle] = [:]
    try all("ids", least: 100) { case_ in
      let name = try case_.text("bundle")
      let bundle = try bundles[name] ?? suite.bundle(name)
      bundles[name] = bundle
      let codec = try XCTUnwrap(bundle.codecs[case_.text("processing")])
      let text = try case_.text("text")
      if !case_.has("ids") { return try refused { _ = try codec.encode(text) } }
      let (ids, mask) = (try codec.encode(text), try codec.mask(text))
      return try ids == case_.integers("ids") && mask == case_.integers("mask") ? nil : "\(ids), it must be \(case_.integers("ids"))"
    }
  }

  func testQueriesGetTheSameAnswers() throws {
    var models: [String: EdgeVLModel] = [:]
    try all("answer", least: 20) { case_ in
      let name = try case_.text("bundle")
      let model = try models[name] ?? EdgeVLModel(suite.bundle(name), runtime: Fixtures.runtime())
      models[name] = model
      return try answerProblem(case_, model)
    }
  }

  func testHostileBundlesAreRefused() throws {
    try all("refuse", least: 10) { case_ in
      try refused {
        let bundle = try ModelBundle(at: suite.folder.appendingPathComponent(case_.text("bundle")))
        _ = try replayedGolden(EdgeVLModel(bundle, runtime: Fixtures.runtime()))
      }
    }
  }

  /// Says how the answer to a case is not what it must be; nil if it is.
  private func answerProblem(_ case_: JSONObject, _ model: EdgeVLModel) throws -> String? {
    let query = Query(pictures: try case_.texts("pictures").map(suite.picture), texts: try case_.texts("texts"))
    let result = try case_.list("result").map { try XCTUnwrap(model.bundle.decoding.decision($0)) }
    let tokens = result.compactMap { if case .token(let id) = $0 { return id } else { return nil } }
    let isSequence = model.bundle.decoding.kind == "generate"
    let own = try model.answered(query, along: isSequence ? tokens : nil)
    let free = isSequence ? try model.answered(query) : own
    return try valuesProblem(case_, own) ?? resultProblem(case_, model, result, free) ?? runsProblem(case_, free) ?? sharesProblem(case_, own)
  }

  private func valuesProblem(_ case_: JSONObject, _ own: Answer) throws -> String? {
    let values = try case_.object("values")
    if values.keys != own.values.keys.sorted() { return "the values are \(own.values.keys)" }
    for output in values.keys {
      let entry = try values.object(output)
      let (wanted, found) = (try suite.floats(entry.text("file")), own.values[output] ?? [])
      if found.joined().count != wanted.count || found.count != (try entry.integers("shape")[0]) { return "\(output) has another shape" }
      let noise = zip(found.joined(), wanted).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
      let ratio = 10 * log10(wanted.reduce(0) { $0 + Double($1) * Double($1) } / noise)
      if !(ratio >= (try entry.number("snr_db"))) { return "\(output): \(ratio) dB" }
    }
    return nil
  }

  private func resultProblem(_ case_: JSONObject, _ model: EdgeVLModel, _ result: [Decision], _ own: Answer) throws -> String? {
    let (unclear, margins) = (try case_.number("unclear"), try case_.numbers("margins"))
    if !model.bundle.decoding.isSame(own.result, Decisions(result: result, margins: margins), unclear) {
      return "the result is \(own.result), it must be \(result)"
    }
    guard let words = case_["words"]?.text, margins.allSatisfy({ $0 > unclear }) else { return nil }
    return own.words == [words] ? nil : "the words are \(own.words), they must be \(words)"
  }

  private func runsProblem(_ case_: JSONObject, _ own: Answer) throws -> String? {
    guard let runs = case_["runs"]?.object else { return nil }
    let wanted = try Dictionary(uniqueKeysWithValues: runs.keys.map { ($0, try runs.integer($0)) }).filter { $0.value > 0 }
    return own.runs == wanted ? nil : "the programs ran \(own.runs), it must be \(wanted)"
  }

  /// Shares are compared as made of our own values, which may differ a little by themselves.
  private func sharesProblem(_ case_: JSONObject, _ own: Answer) throws -> String? {
    guard let shares = case_["shares"]?.object else { return nil }
    let (wanted, found) = (try suite.floats(shares.text("file")), Array((own.shares ?? []).joined()))
    let step = shareStep + (try case_.text("bundle").contains("w8") ? 0.05 : 1e-4)
    let isNear = found.count == wanted.count && zip(found, wanted).allSatisfy { abs($0 - Double($1)) <= step }
    return isNear ? nil : "other shares"
  }
}
