import EdgeVLKit
import EdgeVLOnnx
import Foundation

#if !canImport(CoreML)
  /// What runs bundles here, by the name that an app writes.
  typealias CoreMLRuntime = OnnxRuntime
#endif

/// The lines of docs/ios.md, compiled: `DocumentTests` compares them.
enum TenLines {
  actor Assistant {
    private var model: EdgeVLModel?

    func answer(_ question: String, about photo: Data) async throws -> String {
      let place = Bundle.main.url(forResource: "model", withExtension: "edgevl")!
      if model == nil { model = try await EdgeVLModel.open(at: place, runtime: CoreMLRuntime()) }
      let answer = try await model!.ask(Picture(file: photo), question)
      return "\(answer.text), \(Int(answer.milliseconds)) ms"
    }
  }

  static func ask(_ model: EdgeVLModel, _ picture: Picture, _ questions: [String]) async throws -> [String] {
    var answers: [String] = []
    let look = try await model.look(picture)  // the picture is encoded here
    for question in questions { answers.append(try await look.ask(question).text) }  // and not again
    return answers
  }

  static func search(_ model: EdgeVLModel, _ photos: [URL]) async throws -> [Hit<URL>] {
    let index = PictureIndex<URL>(model)
    for photo in photos { try await index.add(photo, Picture(file: Data(contentsOf: photo))) }
    return try await index.search("a red car", count: 20)
  }

  static func frame(_ y: YUVPlane, _ u: YUVPlane, _ v: YUVPlane) throws -> Picture {
    try Picture(y: y, u: u, v: v, width: 1920, height: 1080, colors: .bt709Video, turn: 90)
  }

  static func test(_ model: EdgeVLModel) async throws -> Int {
    let cases = try await model.replayGolden()  // throws, naming the case that fails
    return cases
  }
}
