import Foundation

/// Where the files of a bundle lie: a folder, memory, a place of your own.
public protocol BundleFiles: Sendable {
  /// For messages: the name of the folder.
  var name: String { get }

  /// Returns all files by their relative path with slashes, and whether each is a plain file (no link, no device); nil
  /// where they cannot be listed, as behind a web address: then nobody can tell that there is one too many.
  func list() throws -> ExactMap<Bool>?

  /// Reads a file in blocks. `take` gets each of them, and may throw to end it.
  func read(_ path: String, _ take: ([UInt8]) throws -> Void) throws
}

/// Why a file cannot be read, as the end of a sentence.
public struct UnreadableFile: Error {
  public let message: String

  public init(_ message: String) { self.message = message }
}

extension BundleFiles {
  /// Returns the bytes of a file, which may have `limit` at most.
  func bytes(_ path: String, limit: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    try read(path) { block in
      bytes += block
      if bytes.count > limit { throw UnreadableFile("has more than \(limit) bytes") }
    }
    return bytes
  }

  /// Returns the sha256 of a file, which may have `limit` bytes at most, and how many it has.
  func digest(_ path: String, limit: Int) throws -> (sha256: String, size: Int) {
    var digest = Digest()
    var size = 0
    try read(path) { block in
      size += block.count
      if size > limit { throw UnreadableFile("has grown: more than \(limit) bytes") }
      digest.update(block)
    }
    return (digest.finished(), size)
  }
}

private let block = 1 << 18
private let longestName = 255

/// The files of a folder. Links are not followed.
public struct FolderFiles: BundleFiles {
  private let root: String
  public let name: String

  public init(_ folder: URL) {
    root = folder.path
    name = folder.lastPathComponent
  }

  public func list() throws -> ExactMap<Bool>? {
    var found = ExactMap<Bool>()
    try walk(root, "", &found)
    return found
  }

  public func read(_ path: String, _ take: ([UInt8]) throws -> Void) throws {
    let full = "\(root)/\(path)"
    guard kindOf(full) == S_IFREG, let file = fopen(full, "rb") else { throw UnreadableFile("is missing, or no plain file") }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: block)
    while true {
      let count = fread(&buffer, 1, block, file)
      if count > 0 { try take(count == block ? buffer : Array(buffer[..<count])) }
      if count < block { break }
    }
    if ferror(file) != 0 { throw UnreadableFile("cannot be read to its end") }
  }

  private func walk(_ folder: String, _ prefix: String, _ found: inout ExactMap<Bool>) throws {
    guard let stream = opendir(folder) else { throw UnreadableFile("cannot be listed") }
    defer { closedir(stream) }
    while let entry = readdir(stream) {
      let file = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: longestName + 1) { String(cString: $0) }
      }
      if file == "." || file == ".." { continue }
      let (path, isDeep) = (prefix + file, (prefix + file).unicodeScalars.count > longestName)
      let kind = kindOf("\(folder)/\(file)")
      if !isDeep && kind == S_IFDIR {
        try walk("\(folder)/\(file)", "\(path)/", &found)
      } else {
        found[path] = !isDeep && kind == S_IFREG
      }
    }
  }

  /// Returns the kind of a file, not of what a link names.
  private func kindOf(_ path: String) -> mode_t {
    var information = stat()
    return lstat(path, &information) == 0 ? information.st_mode & S_IFMT : 0
  }
}

/// Files in memory, by path.
public struct MemoryFiles: BundleFiles {
  public let name: String
  private let files: ExactMap<[UInt8]>

  public init(name: String, files: ExactMap<[UInt8]>) {
    self.name = name
    self.files = files
  }

  public func list() -> ExactMap<Bool>? { files.mapValues { _ in true } }

  public func read(_ path: String, _ take: ([UInt8]) throws -> Void) throws {
    guard let bytes = files[path] else { throw UnreadableFile("is missing") }
    try take(bytes)
  }
}
