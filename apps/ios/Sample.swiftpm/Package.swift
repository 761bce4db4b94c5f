// swift-tools-version: 5.9
// An app that Xcode 15 and later opens as it is.
import AppleProductTypes
import PackageDescription

let package = Package(
  name: "EdgeVLSample",
  platforms: [.iOS(.v16)],
  products: [
    .iOSApplication(
      name: "EdgeVL",
      targets: ["App"],
      bundleIdentifier: "edgevl.sample",
      displayVersion: "1.0",
      bundleVersion: "1",
      appIcon: .placeholder(icon: .camera),
      accentColor: .presetColor(.teal),
      supportedDeviceFamilies: [.phone, .pad],
      supportedInterfaceOrientations: [.portrait, .landscapeLeft, .landscapeRight, .portraitUpsideDown(.when(deviceFamilies: [.pad]))]
    )
  ],
  dependencies: [.package(name: "EdgeVLKit", path: "..")],
  targets: [
    .executableTarget(
      name: "App",
      dependencies: [.product(name: "EdgeVLKit", package: "EdgeVLKit")],
      path: "App",
      resources: [.copy("model.edgevl")]
    )
  ]
)
