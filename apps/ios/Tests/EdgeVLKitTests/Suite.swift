import EdgeVLOnnx
import Foundation
import XCTest

@testable import EdgeVLKit

/// What tests/apps/android_fixtures.py wrote: conformance, mutants.
enum Fixtures {
  static let folder: URL = {
    guard let path = ProcessInfo.processInfo.environment["EDGEVL_FIXTURES"] else {
      fatalError("start the tests by apps/ios/test.sh, which writes what they read")
    }
    return URL(fileURLWithPath: path)
  }()

  static func runtime() throws -> OnnxRuntime { try OnnxRuntime(threads: 1) }

  static func bundle(_ name: String) -> URL { folder.appendingPathComponent("conformance/bundles/\(name).edgevl") }

  static func open(_ name: String) throws -> EdgeVLModel { try EdgeVLModel(ModelBundle(at: bundle(name)), runtime: runtime()) }

  /// The golden pictures of a bundle.
  static func pictures(_ model: EdgeVLModel) throws -> [Picture] {
    try model.bundle.manifest.files.keys.filter { $0.hasPrefix("golden/") }.map { try Picture(png: model.bundle.read($0)) }
  }

  /// The files of a bundle in memory, to change them.
  static func files(_ name: String) throws -> ExactMap<[UInt8]> {
    let folder = FolderFiles(bundle(name))
    var files = ExactMap<[UInt8]>()
    for path in try folder.list()?.keys ?? [] { files[path] = try folder.bytes(path, limit: 1 << 30) }
    return files
  }
}

/// What `edgevl app conformance` wrote, see docs/conformance.md.
struct Suite {
  let folder = Fixtures.folder.appendingPathComponent("conformance")
  private let list: JSONObject

  init() throws {
    list = try strictJSON(Suite.bytes(folder.appendingPathComponent("conformance.json"))).object ?? [:]
    if list["version"] != 1 { throw Unreadable(message: "the suite has version \(list["version"]?.shown ?? "none"), these tests read 1") }
  }

  private static func bytes(_ file: URL) throws -> [UInt8] { Array(try Data(contentsOf: file)) }

  func bytes(_ path: String) throws -> [UInt8] { try Suite.bytes(folder.appendingPathComponent(path)) }

  func cases(_ kind: String) throws -> [JSONObject] { try list.objects("cases").filter { $0["kind"]?.text == kind } }

  func bundle(_ name: String) throws -> ModelBundle {
    let path = try list.object("bundles").object(name).text("path")
    return try ModelBundle(at: folder.appendingPathComponent(path))
  }

  /// Returns the ways to read a picture here: from its samples, and a PNG from its file.
  func ways(_ name: String) throws -> [() throws -> Picture] {
    let entry = try list.object("pictures").object(name)
    var ways: [() throws -> Picture] = []
    if entry.has("raw") { ways.append { try fromRaw(entry) } }
    if entry["format"] == "png" { ways.append { try Picture(png: bytes(entry.text("file"))) } }
    return ways
  }

  func picture(_ name: String) throws -> Picture { try fromRaw(list.object("pictures").object(name)) }

  private func fromRaw(_ entry: JSONObject) throws -> Picture {
    try Picture(
      samples: bytes(entry.text("raw")), width: entry.integer("width"), height: entry.integer("height"),
      channels: entry.integer("channels"), depth: entry.integer("depth"), orientation: entry.integer("orientation"))
  }

  func floats(_ path: String) throws -> [Float] {
    try bytes(path).withUnsafeBytes { raw in
      (0..<raw.count / 4).map { Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))) }
    }
  }
}
