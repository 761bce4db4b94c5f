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
    for entry in cases {
      let name = try entry["id"]?.text ?? entry.text("bundle")
      do {
        if let problem = try check(entry) { failed.append("\(name): \(problem)") }
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
    try all("pixels", least: 100) { entry in
      let name = try entry.text("bundle")
      let bundle = try bundles[name] ?? suite.bundle(name)
      bundles[name] = bundle
      let spec = try XCTUnwrap(bundle.manifest.imageProcessing[entry.text("processing")])
      for read in try suite.ways(entry.text("picture")) {
        guard let wanted = entry["sha256"]?.text else {
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
    try all("ids", least: 100) { entry in
      let name = try entry.text("bundle")
      let bundle = try bundles[name] ?? suite.bundle(name)
      bundles[name] = bundle
      let codec = try XCTUnwrap(bundle.codecs[entry.text("processing")])
      let text = try entry.text("text")
      if !entry.has("ids") { return try refused { _ = try codec.encode(text) } }
      let (ids, mask) = (try codec.encode(text), try codec.mask(text))
      if try ids != entry.integers("ids") || mask != entry.integers("mask") { return "\(ids), it must be \(try entry.integers("ids"))" }
      let (own, words) = (codec.decode(ids), try entry.text("words"))
      return Array(own.utf8) == Array(words.utf8) ? nil : "the words '\(own)', they must be '\(words)'"
    }
  }

  func testQueriesGetTheSameAnswers() throws {
    var models: [String: EdgeVLModel] = [:]
    try all("answer", least: 20) { entry in
      let name = try entry.text("bundle")
      let model = try models[name] ?? EdgeVLModel(suite.bundle(name), runtime: Fixtures.runtime())
      models[name] = model
      return try answerProblem(entry, model)
    }
  }

  /// Opening alone refuses them, before anything runs.
  func testHostileBundlesAreRefused() throws {
    try all("refuse", least: 10) { entry in
      try refused {
        let bundle = try ModelBundle(at: suite.folder.appendingPathComponent(entry.text("bundle")))
        _ = try EdgeVLModel(bundle, runtime: Fixtures.runtime())
      }
    }
  }

  /// Says how the answer to a case is not what it must be; nil if it is.
  private func answerProblem(_ entry: JSONObject, _ model: EdgeVLModel) throws -> String? {
    let query = Query(pictures: try entry.texts("pictures").map(suite.picture), texts: try entry.texts("texts"))
    let result = try entry.list("result").map { try XCTUnwrap(model.bundle.decoding.decision($0)) }
    let tokens = result.compactMap { if case .token(let id) = $0 { return id } else { return nil } }
    let isSequence = model.bundle.decoding.kind == "generate"
    let own = try model.answered(query, along: isSequence ? tokens : nil)
    let free = isSequence ? try model.answered(query) : own
    if let problem = try valuesProblem(entry, own) { return problem }
    if let problem = try resultProblem(entry, model, result, free) { return problem }
    return try runsProblem(entry, free) ?? sharesProblem(entry, own)
  }

  private func valuesProblem(_ entry: JSONObject, _ own: Answer) throws -> String? {
    let values = try entry.object("values")
    if values.keys != own.values.keys.sorted() { return "the values are \(own.values.keys)" }
    for output in values.keys {
      let stored = try values.object(output)
      let (wanted, found) = (try suite.floats(stored.text("file")), own.values[output] ?? [])
      if try found.joined().count != wanted.count || found.count != stored.integers("shape")[0] { return "\(output) has another shape" }
      let ratio: Double = 10 * log10(power(wanted) / power(zip(found.joined(), wanted).map { $0.0 - $0.1 }))
      if try !(ratio >= stored.number("snr_db")) { return "\(output): \(ratio) dB" }
    }
    return nil
  }

  private func power(_ values: [Float]) -> Double {
    values.reduce(0.0) { (sum: Double, value: Float) in sum + Double(value) * Double(value) }
  }

  private func resultProblem(_ entry: JSONObject, _ model: EdgeVLModel, _ result: [Decision], _ own: Answer) throws -> String? {
    let (unclear, margins) = (try entry.number("unclear"), try entry.numbers("margins"))
    if !model.bundle.decoding.isSame(own.result, Decisions(result: result, margins: margins), unclear) {
      return "the result is \(own.result), it must be \(result)"
    }
    guard let words = entry["words"]?.text, margins.allSatisfy({ $0 > unclear }) else { return nil }
    return own.words == [words] ? nil : "the words are \(own.words), they must be \(words)"
  }

  private func runsProblem(_ entry: JSONObject, _ own: Answer) throws -> String? {
    guard let runs = entry["runs"]?.object else { return nil }
    let wanted = try Dictionary(uniqueKeysWithValues: runs.keys.map { ($0, try runs.integer($0)) }).filter { $0.value > 0 }
    return own.runs == wanted ? nil : "the programs ran \(own.runs), it must be \(wanted)"
  }

  /// Shares are compared as made of our own values, which may differ a little by themselves.
  private func sharesProblem(_ entry: JSONObject, _ own: Answer) throws -> String? {
    guard let shares = entry["shares"]?.object else { return nil }
    let (wanted, found) = (try suite.floats(shares.text("file")), Array((own.shares ?? []).joined()))
    let step = shareStep + (try entry.text("bundle").contains("w8") ? 0.05 : 1e-4)
    let isNear = zip(found, wanted).allSatisfy { (own: Double, other: Float) in abs(own - Double(other)) <= step }
    return isNear && found.count == wanted.count ? nil : "other shares"
  }
}
