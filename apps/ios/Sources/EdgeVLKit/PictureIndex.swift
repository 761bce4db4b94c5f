/// Something that was found: the key that it was added under, and how near it is, −1 to 1.
public struct Hit<Key: Sendable>: Sendable {
  public let key: Key
  public let score: Double
}

/// An index of pictures by words. The model's decoding must be `rank`.
public actor PictureIndex<Key: Sendable> {
  private let model: EdgeVLModel
  private var entries: [(key: Key, embedding: [Float])] = []

  public init(_ model: EdgeVLModel) { self.model = model }

  public var count: Int { entries.count }

  /// Adds a picture under a key, such as its address. Returns its embedding, to be kept for the next start.
  @discardableResult
  public func add(_ key: Key, _ picture: Picture) async throws -> [Float] {
    let embedding = try await model.embed(picture)
    add(key, embedding: embedding)
    return embedding
  }

  /// Adds an embedding that was made before, with the same bundle.
  public func add(_ key: Key, embedding: [Float]) { entries.append((key, embedding)) }

  /// Returns the pictures that fit the words best, the nearest first.
  public func search(_ words: String, count: Int = 20) async throws -> [Hit<Key>] {
    let wanted = try await model.embed(words)
    let hits = entries.map { Hit(key: $0.key, score: product($0.embedding, wanted)) }
    return Array(hits.sorted { $0.score > $1.score }.prefix(count))
  }
}
