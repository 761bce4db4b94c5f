import Foundation
import XCTest

@testable import EdgeVLKit
@testable import EdgeVLOnnx

private let questions = ["what color is the car?", "how many objects are there?", "is there a dog?"]

final class ModelTests: XCTestCase {
  private func scores(_ answer: Answer) -> [Float] { answer.values.first?.value.first ?? [] }

  func testAPictureThatWasLookedAtIsEncodedOnce() async throws {
    let model = try Fixtures.open("nano-fp32-split")
    let picture = try Fixtures.pictures(model)[0]
    let look = try await model.look(picture)
    var words: [String] = []
    for question in questions {
      let (own, whole) = (try await look.ask(question), try await model.ask(picture, question))
      XCTAssertEqual(own.runs, ["fusion": 1])
      XCTAssertEqual(whole.runs, ["vision": 1, "fusion": 1])
      XCTAssertEqual(scores(own), scores(whole))
      words.append(own.text)
    }
    let three = try await model.answer(Query(pictures: [picture], texts: questions))
    XCTAssertEqual(three.runs, ["vision": 1, "fusion": 3])
    XCTAssertEqual(three.words, words)
  }

  func testChoicesAreTheLargestShares() async throws {
    let model = try Fixtures.open("nano-fp32-single")
    let answer = try await model.ask(Fixtures.pictures(model)[0], questions[0])
    let choices = answer.choices(3)
    XCTAssertEqual(answer.text, choices[0].label)
    XCTAssertEqual(choices.map(\.share), choices.map(\.share).sorted(by: >))
    XCTAssertEqual(Set(answer.choices(.max).map(\.label)), Set(model.bundle.labels ?? []))
    XCTAssertEqual(answer.choices(.max).reduce(0) { $0 + $1.share }, 1, accuracy: 1e-9)
  }

  func testManyTasksGetWhatOneGets() async throws {
    let model = try Fixtures.open("nano-fp32-split")
    let queries = try Fixtures.pictures(model).flatMap { picture in questions.map { (picture, $0) } }
    var alone: [[Float]] = []
    for (picture, text) in queries { alone.append(scores(try await model.ask(picture, text))) }
    let together = try await withThrowingTaskGroup(of: (Int, [Float]).self) { group in
      for (number, query) in queries.enumerated() {
        group.addTask {
          let answer = try await model.ask(query.0, query.1)
          return (number, answer.values.first?.value.first ?? [])
        }
      }
      return try await group.reduce(into: [Int: [Float]]()) { $0[$1.0] = $1.1 }
    }
    for (number, row) in alone.enumerated() { XCTAssertEqual(together[number], row) }
  }

  /// ONNX Runtime is asked by several threads at once, without the queue of a model.
  func testASessionMayBeCalledByManyThreads() throws {
    let model = try Fixtures.open("nano-fp32-split")
    let query = Query(pictures: [try Fixtures.pictures(model)[0]], texts: [questions[0]])
    let wanted = try scores(model.answered(query))
    DispatchQueue.concurrentPerform(iterations: 8) { _ in
      XCTAssertEqual((try? model.answered(query))?.values.first?.value.first, wanted)
    }
  }

  func testATaskThatIsCancelledCostsNothing() async throws {
    let model = try Fixtures.open("nano-fp32-single")
    let picture = try Fixtures.pictures(model)[0]
    let task = Task {
      try await Task.sleep(nanoseconds: 1_000_000_000)
      return try await model.ask(picture, "a dog?")
    }
    task.cancel()
    let result = await task.result
    XCTAssertThrowsError(try result.get()) { XCTAssertTrue($0 is CancellationError) }
  }

  func testPicturesAreFoundByWords() async throws {
    let model = try Fixtures.open("rank")
    let pictures = try Fixtures.pictures(model)
    let index = PictureIndex<Int>(model)
    for (number, picture) in pictures.enumerated() { try await index.add(number, picture) }
    let text = model.bundle.exampleTexts[0]
    let hits = try await index.search(text)
    let wanted = try await model.embed(text)
    var scores: [Double] = []
    for picture in pictures { scores.append(product(try await model.embed(picture), wanted)) }
    XCTAssertEqual(hits.map(\.score), scores.sorted(by: >))
    XCTAssertEqual(hits[0].key, scores.firstIndex(of: scores.max() ?? 0))
    let label = try await model.embed(label: "car")
    XCTAssertEqual(product(label, label), 1, accuracy: 1e-5)
  }

  func testWhatCannotBeAskedIsSaid() async throws {
    let model = try Fixtures.open("nano-fp32-single")
    let picture = try Fixtures.pictures(model)[0]
    await assertThrows(.badInput("the text is empty: ask something in words")) { _ = try await model.ask(picture, " ") }
    await assertThrows(.badInput("the model reads picture 1 of a query, this one has 0")) {
      _ = try await model.answer(Query(pictures: [], texts: ["a dog?"]))
    }
    await assertThrows(.badInput("a bundle that can classify has no embeddings: export one for retrieval")) {
      _ = try await model.embed("a")
    }
  }

  private func assertThrows(_ wanted: EdgeVLError, _ work: () async throws -> Void) async {
    do {
      try await work()
      XCTFail("nothing was thrown, it must be: \(wanted)")
    } catch {
      XCTAssertEqual(error as? EdgeVLError, wanted)
    }
  }

  func testABundleInMemoryIsReadAndItsDigestsAreCompared() throws {
    var files = try Fixtures.files("classify-pair")
    XCTAssertNoThrow(try ModelBundle(MemoryFiles(name: "x", files: files)))
    files["labels.json"]?[3] ^= 1
    XCTAssertThrowsError(try ModelBundle(MemoryFiles(name: "x", files: files))) {
      XCTAssertEqual("\($0)", "labels.json has changed: its sha256 is not the one in the manifest; copy the bundle again")
    }
    files["labels.json"] = nil
    XCTAssertThrowsError(try ModelBundle(MemoryFiles(name: "x", files: files))) {
      XCTAssertEqual("\($0)", "labels.json of the bundle x cannot be read: is missing; copy the bundle again")
    }
  }

  func testAGoldenCaseThatFailsIsNamed() throws {
    try assertGoldenFails("other pixels than recorded, by main", "[0-9a-f]{64}", String(repeating: "0", count: 64))
    try assertGoldenFails("its values of logits have another shape than the program gives", "1,\\s+167\\s", "1, 168 ")
  }

  /// A bundle with another text in its golden file, of the same length, and a digest that fits it.
  private func assertGoldenFails(_ problem: String, _ pattern: String, _ other: String) throws {
    var files = try Fixtures.files("nano-fp32-single")
    let golden = String(decoding: files["golden.json"] ?? [], as: UTF8.self)
    let digits = try XCTUnwrap(golden.range(of: pattern, options: .regularExpression).map { String(golden[$0]) })
    let padded = other.padding(toLength: digits.count, withPad: " ", startingAt: 0)
    let changed = Array(golden.replacingOccurrences(of: digits, with: padded).utf8)
    let manifest = String(decoding: files["manifest.json"] ?? [], as: UTF8.self)
    files["manifest.json"] = Array(manifest.replacingOccurrences(of: Digest.of(files["golden.json"] ?? []), with: Digest.of(changed)).utf8)
    files["golden.json"] = changed
    let model = try EdgeVLModel(ModelBundle(MemoryFiles(name: "x", files: files)), runtime: Fixtures.runtime())
    XCTAssertThrowsError(try replayedGolden(model)) {
      XCTAssertEqual($0 as? EdgeVLError, .bundleRefused("golden case 1: \(problem)"))
    }
  }

  func testASequenceEndsWithTheStopToken() throws {
    var files = try Fixtures.files("generate")
    let whole = try Fixtures.open("generate")
    let query = Query(pictures: [try Fixtures.pictures(whole)[0]])
    let tokens = try whole.answered(query).result
    XCTAssertGreaterThan(tokens.count, 1)
    guard case .token(let first) = tokens[0] else { return XCTFail("\(tokens)") }
    let manifest = String(decoding: files["manifest.json"] ?? [], as: UTF8.self)
    let changed = manifest.replacingOccurrences(of: "\"stop\": [0-9]+", with: "\"stop\": \(first)", options: .regularExpression)
    XCTAssertNotEqual(manifest, changed)
    files["manifest.json"] = Array(changed.utf8)
    let model = try EdgeVLModel(ModelBundle(MemoryFiles(name: "x", files: files)), runtime: Fixtures.runtime())
    XCTAssertEqual(try model.answered(query).result, [.token(first)])
  }

  func testONNXRuntimeIsToldToReportNothing() throws {
    XCTAssertTrue(try Fixtures.runtime().name.hasPrefix("onnxruntime 1."))
    XCTAssertEqual(String(cString: getenv("ORT_DISABLE_TELEMETRY")), "1")
  }
}
