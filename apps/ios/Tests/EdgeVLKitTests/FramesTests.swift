import XCTest

@testable import EdgeVLKit

/// docs/conformance.md, "Camera frames".
final class FramesTests: XCTestCase {
  func testFramesBecomeTheSamePixels() throws {
    let suite = try Suite()
    let frames = try strictJSON(suite.bytes("frames.json")).object!.objects("frames")
    XCTAssertGreaterThanOrEqual(frames.count, 30)
    var failed: [String] = []
    for frame in frames {
      let picture = try picture(frame, suite)
      let sides = try [frame.integer("rgb_width"), frame.integer("rgb_height")]
      let isRight = try [picture.width, picture.height] == sides && picture.rgb == suite.bytes(frame.text("rgb"))
      if !isRight { try failed.append(frame.text("id")) }
    }
    print("conformance, frame: \(frames.count - failed.count) of \(frames.count)")
    XCTAssertEqual(failed, [])
  }

  private func picture(_ frame: JSONObject, _ suite: Suite) throws -> Picture {
    let colors: [String: YUVColors] = [
      "bt601-full": .bt601Full, "bt601-limited": .bt601Video, "bt709-full": .bt709Full, "bt709-limited": .bt709Video,
    ]
    let coding = try XCTUnwrap(colors[frame.text("colors")])
    return try suite.bytes(frame.text("file")).withUnsafeBytes { bytes in
      let planes = try ["y", "u", "v"].map { name in
        let place = try frame.object("planes").object(name)
        return try YUVPlane(
          UnsafeRawBufferPointer(rebasing: bytes[place.integer("offset")...]), rowStride: place.integer("row_stride"),
          pixelStride: place.integer("pixel_stride"))
      }
      return try Picture(
        y: planes[0], u: planes[1], v: planes[2], width: frame.integer("width"), height: frame.integer("height"),
        colors: coding, turn: frame.integer("turn"))
    }
  }
}
