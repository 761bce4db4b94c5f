import EdgeVLKit
import EdgeVLOnnx
import Foundation

// Times queries, a block at a time: tools/swift_latency.py interleaves the blocks with those of Python.
//
// Arguments: bundle, threads. Each line read is "SCOPE COUNT"; each line written the milliseconds of COUNT queries. Scopes:
// `pipeline`, the first golden picture as PNG, and its texts, to the answer; `frame`, a 1080p frame (NV12) in memory.

let (width, height) = (1920, 1080)

/// A frame with edges and colors: NV12, whose chroma planes are views of the same bytes.
func frame() throws -> Picture {
  try luma.withUnsafeBytes { y in
    try chroma.withUnsafeBytes { uv in
      try Picture(
        y: YUVPlane(y, rowStride: width, pixelStride: 1), u: YUVPlane(uv, rowStride: width, pixelStride: 2),
        v: YUVPlane(UnsafeRawBufferPointer(rebasing: uv[1...]), rowStride: width, pixelStride: 2), width: width, height: height)
    }
  }
}

func milliseconds(_ work: () async throws -> Void) async throws -> Double {
  let started = DispatchTime.now().uptimeNanoseconds
  try await work()
  return Double(DispatchTime.now().uptimeNanoseconds - started) / 1e6
}

let luma = (0..<width * height).map { UInt8(truncatingIfNeeded: $0 % width * $0 / width / 7) }
let chroma = (0..<width * height / 2).map { UInt8(truncatingIfNeeded: $0 / 64) }
let threads = Int(CommandLine.arguments[2]) ?? 1
let model = try await EdgeVLModel.open(at: URL(fileURLWithPath: CommandLine.arguments[1]), runtime: OnnxRuntime(threads: threads))
let texts = Array(model.bundle.exampleTexts.prefix(1))
let pictures = model.bundle.manifest.files.keys.filter { $0.hasPrefix("golden/") }
let png = try model.bundle.read(pictures[0])

while let line = readLine() {
  let parts = line.split(separator: " ")
  var times: [Double] = []
  for _ in 0..<(Int(parts[1]) ?? 1) {
    let isFrame = parts[0] == "frame"
    times.append(
      try await milliseconds {
        let picture = try isFrame ? frame() : Picture(png: png)
        _ = try await model.answer(Query(pictures: [picture], texts: texts))
      })
  }
  print(times.map { String($0) }.joined(separator: " "))
  fflush(nil)
}
