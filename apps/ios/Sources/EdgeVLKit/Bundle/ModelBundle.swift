import EdgeVLPacked
import Foundation

private let newest = 2
private let maxLabel = 2000
private let minSideWithDomain = 8
private let decodings = ["classify": "ClassifyFields", "rank": "RankFields", "generate": "GenerateFields", "box": "BoxFields"]

/// A bundle whose every file is the one in its manifest, and says what docs/bundle.md allows. It knows no task.
///
/// What is refused throws `EdgeVLError.bundleRefused` with one sentence.
public final class ModelBundle: Sendable {
  public let manifest: Manifest
  /// The answers that `classify` chooses from, in the order of the scores; nil if there are none.
  public let labels: [String]?
  let codecs: ExactMap<any TextCodec>
  let decoding: any Decoding
  let golden: JSONObject
  private let files: BundleReader

  /// Opens the bundle in a folder: hashes every file, so do it once, off the main thread.
  public convenience init(at folder: URL) throws { try self.init(FolderFiles(folder)) }

  /// Opens a bundle wherever its files lie.
  public init(_ files: any BundleFiles) throws {
    let reader = BundleReader(files: files)
    manifest = try reader.manifest()
    if let problem = manifestProblem(manifest) { try invalid(manifestName, problem) }
    if let found = try reader.list(), let problem = folderProblem(manifest, found) { try refuse("\(problem); copy the bundle again") }
    for path in manifest.files.keys { try reader.checkDigest(path, manifest.files[path]!) }
    let read = { [manifest] path in try reader.json(path, manifest) }
    labels = try readLabels(manifest, read)
    codecs = try manifest.textProcessing.mapValues { try openTextCodec($0, read($0.file)) }
    decoding = try openDecoding(manifest, labels, codecs)
    golden = try readGolden(manifest, read)
    if manifest.files.contains(domainName) { try checkDomain(manifest, read(domainName)) }
    self.files = reader
  }

  /// Texts of the golden cases, each once: examples of what can be asked.
  public var exampleTexts: [String] {
    let all = (golden["cases"]?.list ?? []).flatMap { $0.object?["texts"]?.list ?? [] }.compactMap(\.text)
    return all.reduce(into: []) { if !$0.containsExactly($1) { $0.append($1) } }
  }

  /// Returns the bytes of a file that the manifest lists: those that have its digest, whatever happened since.
  public func read(_ path: String) throws -> [UInt8] { try files.read(path, manifest) }
}

/// Reads files of a bundle, and compares them with their digests.
struct BundleReader: Sendable {
  let files: any BundleFiles

  func list() throws -> ExactMap<Bool>? { try reading("the folder") { try files.list() } }

  func checkDigest(_ path: String, _ entry: FileEntry) throws {
    let (sha256, size) = try reading(path) { try files.digest(path, limit: entry.bytes) }
    if size < entry.bytes { try refuse("\(path) is truncated: \(size) bytes, the manifest says \(entry.bytes); copy the bundle again") }
    try compare(path, entry, sha256)
  }

  func read(_ path: String, _ manifest: Manifest) throws -> [UInt8] {
    guard let entry = manifest.files[path] else { try refuse("\(path) is not among the files of \(manifestName)") }
    let bytes = try reading(path) { try files.bytes(path, limit: entry.bytes) }
    try compare(path, entry, Digest.of(bytes))
    return bytes
  }

  func json(_ path: String, _ manifest: Manifest) throws -> JSONValue { try parsed(path, read(path, manifest)) }

  /// Reads the manifest, and holds it against its schema.
  func manifest() throws -> Manifest {
    let bytes = try reading(manifestName) { try files.bytes(manifestName, limit: maxTextBytes) }
    var values = try parsed(manifestName, bytes)
    let version = values.object?["schema_version"]?.integer ?? newest
    if version > newest { try refuse("the bundle has schema version \(version), this library reads up to \(newest): update it") }
    if version == 1 { values = .object(try upgradedManifest(valid(values, "Manifest", manifestName, version: 1))) }
    let checked = try valid(values, "Manifest", manifestName)
    let kind = try checked.object("decoding")["kind"] ?? .null
    guard let fields = kind.text.flatMap({ decodings[$0] }) else {
      try refuse("\(manifestName): the decoding \(kind.shown) is not known, only \(decodings.keys.sorted()): update this library")
    }
    _ = try valid(checked["decoding"] ?? .null, fields, "\(manifestName), decoding")
    return try Manifest(checked)
  }

  private func compare(_ path: String, _ entry: FileEntry, _ sha256: String) throws {
    if sha256 != entry.sha256 { try refuse("\(path) has changed: its sha256 is not the one in the manifest; copy the bundle again") }
  }

  private func reading<Result>(_ path: String, _ read: () throws -> Result) throws -> Result {
    do {
      return try read()
    } catch let error as UnreadableFile {
      try refuse("\(path) of the bundle \(files.name) cannot be read: \(error.message); copy the bundle again")
    }
  }

  private func parsed(_ path: String, _ bytes: [UInt8]) throws -> JSONValue {
    do {
      return try strictJSON(bytes)
    } catch let error as Unreadable {
      try invalid(path, error.message)
    }
  }
}

private func readLabels(_ manifest: Manifest, _ read: (String) throws -> JSONValue) throws -> [String]? {
  guard let (file, count) = manifest.labels else { return nil }
  let values = try read(file).list ?? []
  let texts = values.compactMap(\.text).filter { $0.unicodeScalars.count <= maxLabel }
  if texts.count != values.count || texts.count != count {
    try invalid(file, "it does not hold \(count) labels of at most \(maxLabel) characters")
  }
  return texts
}

private func readGolden(_ manifest: Manifest, _ read: (String) throws -> JSONValue) throws -> JSONObject {
  var values = try read(manifest.golden)
  if values.object?["schema_version"] == 1 {
    values = .object(try upgradedGolden(valid(values, "GoldenFile", manifest.golden, version: 1)))
  }
  let golden = try valid(values, "GoldenFile", manifest.golden)
  let pictures = try golden.objects("cases").flatMap { try $0.texts("pictures") }
  if let missing = pictures.first(where: { !manifest.files.contains($0) }) {
    try invalid(manifest.golden, "\(missing) is not among the files")
  }
  return golden
}

/// Checks what the model was trained on, as numbers: nothing here uses it, but what a bundle holds is whole.
private func checkDomain(_ manifest: Manifest, _ values: JSONValue) throws {
  let domain = try valid(values, "Domain", domainName)
  if try domain.text("checkpoint_sha256") != manifest.checkpointSHA256 { try invalid(domainName, "it was made with other weights") }
  let side = manifest.imageProcessing.values.map(\.size).min() ?? 0
  let isFew = try domain.list("pictures").count < domain.integer("neighbors")
  if side < minSideWithDomain || isFew { try invalid(domainName, "it does not fit") }
}

/// Returns parsed JSON that is what a version's schema calls `definition`. Throws a refusal that names the file.
private func valid(_ values: JSONValue, _ definition: String, _ file: String, version: Int = newest) throws -> JSONObject {
  do {
    let schema = try JSONSchema(strictJSON(version == 1 ? Packed.schema1 : Packed.schema2), formats: formats)
    try schema.check(values, definition)
  } catch let error as SchemaProblem {
    try invalid(file, error.message)
  }
  return values.object ?? [:]
}

private func invalid(_ file: String, _ what: String) throws -> Never { try refuse("\(file) is not valid: \(what); copy the bundle again") }
