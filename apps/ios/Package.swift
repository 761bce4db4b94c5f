// swift-tools-version: 5.9
import PackageDescription

let strict: [SwiftSetting] = [.enableExperimentalFeature("StrictConcurrency")]
let resources: [Resource] = ["bundle.schema.json", "bundle-1.schema.json", "code-points.txt"].map { .embedInCode("Resources/\($0)") }

let package = Package(
  name: "EdgeVLKit",
  platforms: [.iOS(.v16), .macOS(.v13)],
  products: [.library(name: "EdgeVLKit", targets: ["EdgeVLKit"])],
  targets: [
    .target(name: "EdgeVLKit", dependencies: ["EdgeVLPacked"], swiftSettings: strict),
    .target(name: "EdgeVLPacked", resources: resources),
  ]
)

#if os(Linux)
  // Apple's platforms run bundles by Core ML. Here ONNX Runtime does, for the tests: test.sh brings its header and library.
  package.products.append(.library(name: "EdgeVLOnnx", targets: ["EdgeVLOnnx"]))
  package.targets += [
    .systemLibrary(name: "COnnxRuntime"),
    .target(name: "EdgeVLOnnx", dependencies: ["EdgeVLKit", "COnnxRuntime"], swiftSettings: strict),
    .executableTarget(name: "edgevl-latency", dependencies: ["EdgeVLOnnx"], swiftSettings: strict),
    .testTarget(name: "EdgeVLKitTests", dependencies: ["EdgeVLOnnx"], swiftSettings: strict),
  ]
#endif
