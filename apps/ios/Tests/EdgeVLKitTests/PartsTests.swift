import Foundation
import XCTest

@testable import EdgeVLKit
@testable import EdgeVLOnnx

/// What the suites do not reach, or would not name.
final class PartsTests: XCTestCase {
  private func nested(_ depth: Int) -> String { String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }

  private func parsed(_ text: String) throws -> JSONValue { try strictJSON(Array(text.utf8)) }

  func testJSONIsReadStrictly() throws {
    var object = JSONObject()
    object["a"] = .null
    let wanted: [JSONValue] = [.integer(1), .real(1), .real(-2000), .text("a\u{e9}\u{1F600}"), .object(object), .bool(true)]
    XCTAssertEqual(try parsed(#"[1, 1.0, -2e3, "a\u00e9\ud83d\ude00", {"a": null}, true]"#), JSONValue.list(wanted))
    XCTAssertEqual(try parsed("123456789012345678901234567890"), .large(1.2345678901234568e29))
    let broken: [String] = [
      "", "{", "[1,]", "[01]", "[1.]", "[.5]", "[+1]", "[1e]", "[NaN]", "[1e400]", "{\"a\": 1, \"a\": 2}", "[\"\\ud800\"]",
      "[\"\\udc00\\ud800\"]",
      "[\"\\ud800\\u0041\"]", "[\"\n\"]", "[\"\\x\"]", "[tru]", "[1] 2", "\u{FEFF}[1]",
      String(repeating: "9", count: 400),
    ]
    for text in broken + [nested(33)] { XCTAssertThrowsError(try parsed(text), text) }
    XCTAssertNoThrow(try parsed(nested(32)))
    XCTAssertThrowsError(try strictJSON([0x22, 0xC3, 0x28, 0x22]))
    XCTAssertNoThrow(try parsed("{\"\u{e9}\": 1, \"e\u{301}\": 2}"), "keys are compared byte by byte")
  }

  func testPathsThatLeaveTheBundleAreRefused() {
    let fine: [String] = ["golden/0-a.png", "a b/c.d", "\u{e9}.json", "console", "com", "lpt10"]
    for path in fine { XCTAssertNil(pathProblem(path), path) }
    let bad: [String] = [
      "", "/a", "a//b", "a/", "./a", "../a", "a/../b", "~a", "a\\b", "a:b", "a\u{0}b", "a\u{85}b", "a\u{2028}b", "CON", "con .txt",
      "a/nul.json", "LPT9",
      "com\u{B9}.x", "a.", "a /b", String(repeating: "a", count: 256),
    ]
    for path in bad {
      XCTAssertNotNil(pathProblem(path), path)
    }
    XCTAssertEqual(folded("STRASSE\u{3A3}\u{130}"), folded("stra\u{df}e\u{3c2}i\u{307}"))
    XCTAssertNotEqual(folded("\u{131}"), folded("i"))
  }

  func testTheOwnSHA256() {
    let digests: [(String, String)] = [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (String(repeating: "a", count: 1_000_000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ]
    for (text, digest) in digests {
      var hash = PlainSHA256()
      for part in stride(from: 0, to: text.utf8.count, by: 77777) { hash.update(Array(Array(text.utf8)[part...].prefix(77777))) }
      XCTAssertEqual(hash.finished().map { String(format: "%02x", $0) }.joined(), digest)
    }
  }

  func testHalfPrecision() {
    let bits: [UInt16] = [0x3C00, 0xC000, 0x0001, 0x7BFF, 0x7C00, 0xFC00]
    let wanted: [Float] = [1, -2, 5.9604645e-8, 65504, Float.infinity, -Float.infinity]
    XCTAssertEqual(bits.map { float(half: $0) }, wanted)
    XCTAssertTrue(float(half: 0x7E00).isNaN)
  }

  func testOfEqualScoresTheFirstIsTheBest() { XCTAssertEqual(indexOfLargest([0, 2, 2, 1]), 1) }

  /// Bundles of one exporter have one batch for all programs; docs/bundle.md allows another for each.
  func testAValueGoesIntoAProgramOfAnotherBatch() throws {
    func numbers(_ values: [Float]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
    let value = try Tensor(dtype: .float32, shape: [2, 2], bytes: numbers([1, 2, 9, 9]))
    func fitted(_ batch: Int) throws -> [UInt8] {
      let spec = TensorSpec(name: "value", dtype: .float32, shape: [batch, 2], layout: "NC", range: nil, isImage: false)
      return try value.fitted(spec).bytes
    }
    XCTAssertEqual(try fitted(1), numbers([1, 2]))
    XCTAssertEqual(try fitted(3), numbers([1, 2, 1, 2, 1, 2]))
    XCTAssertEqual(try fitted(2), value.bytes)
  }

  /// To within half a level of the standards, and planes that end early are refused.
  func testCameraFrames() throws {
    let y: [UInt8] = [81, 145, 41, 235, 16, 128]
    let (u, v): ([UInt8], [UInt8]) = ([90, 240], [240, 110])
    func frame(_ colors: YUVColors, turn: Int = 0, width: Int = 3) throws -> Picture {
      try y.withUnsafeBytes { y in
        try u.withUnsafeBytes { u in
          try v.withUnsafeBytes { v in
            try Picture(
              y: YUVPlane(y, rowStride: 3, pixelStride: 1), u: YUVPlane(u, rowStride: 2, pixelStride: 1),
              v: YUVPlane(v, rowStride: 2, pixelStride: 1), width: width, height: 2, colors: colors, turn: turn)
          }
        }
      }
    }
    let picture = try frame(.bt601Video)
    for at in 0..<6 {
      let luma = 255.0 / 219 * (Double(y[at]) - 16)
      let blue = 255.0 / 224 * (Double(u[at % 3 / 2]) - 128)
      let red = 255.0 / 224 * (Double(v[at % 3 / 2]) - 128)
      let green: Double = luma - (0.344136 * blue + 0.714136 * red)
      let exact: [Double] = [luma + 1.402 * red, green, luma + 1.772 * blue]
      for (channel, value) in exact.enumerated() {
        XCTAssertEqual(Double(picture.rgb[3 * at + channel]), min(max(value, 0), 255), accuracy: 0.52)
      }
    }
    XCTAssertEqual(try frame(.bt709Full, turn: 90).width, 2)
    XCTAssertThrowsError(try frame(.bt601Full, turn: 45))
    XCTAssertThrowsError(try frame(.bt601Full, width: 5))
  }

  private func joined(_ parts: [UInt8]...) -> [UInt8] { Array(parts.joined()) }

  private func segment(_ marker: UInt8, _ content: [UInt8]) -> [UInt8] { joined([0xFF, marker, 0, UInt8(content.count + 2)], content) }

  func testOrientationOfDamagedFilesIsOne() {
    XCTAssertEqual(exifOrientation(of: []), 1)
    XCTAssertEqual(exifOrientation(of: [0xFF, 0xD8, 0xFF]), 1)
    XCTAssertEqual(exifOrientation(of: joined(pngSignature, [0xFF, 0xFF, 0xFF, 0xFF])), 1)
    let block: [UInt8] = Array("Exif\0\0MM\0*\0\0\0\u{8}\0\u{1}\u{1}\u{12}\0\u{3}\0\0\0\u{1}\0\u{6}\0\0".utf8)
    XCTAssertEqual(try orientation(ofBlock: block), 6)
    XCTAssertEqual(exifOrientation(of: joined([0xFF, 0xD8], segment(0xE1, block), [0xFF, 0xDA, 0, 2])), 6)
  }

  func testABareJPEGHasNoProfileAndNoExif() throws {
    let frame = segment(0xC0, [8, 0, 4, 0, 4, 3, 1, 1, 1])
    let jfif = segment(0xE0, Array("JFIF\0".utf8))
    let profile = segment(0xE2, Array("ICC_PROFILE\0".utf8))
    let (start, scan) = ([0xFF, 0xD8] as [UInt8], joined(segment(0xDA, [1, 2, 3]), [0, 0xFF, 0xD9]))
    XCTAssertEqual(try BarePicture(joined(start, jfif, profile, frame, scan)).file, joined(start, jfif, frame, scan))
    XCTAssertThrowsError(try BarePicture(joined(start, segment(0xC0, [12, 0, 4, 0, 4, 3]))))
    XCTAssertThrowsError(try BarePicture(joined(start, jfif)))
    XCTAssertThrowsError(try BarePicture(Array("GIF89a".utf8)))
  }

  func testBoxesComeBackOntoThePicture() throws {
    let picture = try Picture(samples: [UInt8](repeating: 9, count: 60), width: 20, height: 1, channels: 3)
    func processing(_ geometry: String) -> ImageProcessing {
      ImageProcessing(size: 10, geometry: geometry, kernel: "triangle", shortestEdge: nil)
    }
    XCTAssertEqual(try processing("squash").boxOnPicture([0, 0.5, 1, 1], picture), [0, 0.5, 1, 1])
    XCTAssertEqual(try processing("letterbox").boxOnPicture([0, 0.45, 1, 0.5], picture), [0, 0.5, 1, 1])
    XCTAssertEqual(try processing("shortest-edge").boxOnPicture([0, 0, 1, 1], picture), [0.475, 0, 0.525, 1])
  }

  func testMessagesAreOnePlainLine() {
    XCTAssertEqual(plain("a\nb\u{1b}[31m\u{202e}c"), "a b\\u{1b}[31m\\u{202e}c")
  }

  func testAnONNXFileThatEndsAnywhereIsRefused() throws {
    let bundle = try ModelBundle(at: Fixtures.bundle("classify-pair"))
    let bytes = try bundle.read(bundle.manifest.programs[0].artifact)
    var whole = OnnxFile(bytes)
    XCTAssertFalse(try whole.keepsWeightsElsewhere())
    for end in stride(from: 1, to: bytes.count, by: bytes.count / 50) {
      var part = OnnxFile(Array(bytes[..<end]))
      _ = try? part.keepsWeightsElsewhere()
    }
    var elsewhere = OnnxFile([0x3A, 4, 0x2A, 2, 0x6A, 0])  // a graph with a tensor with a place outside
    XCTAssertTrue(try elsewhere.keepsWeightsElsewhere())
    var hostile = OnnxFile([0x3A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01])
    XCTAssertThrowsError(try hostile.keepsWeightsElsewhere())
  }
}
