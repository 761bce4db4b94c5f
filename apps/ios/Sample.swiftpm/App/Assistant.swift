import EdgeVLKit
import Foundation

/// The model, the picture that was looked at, and what was said last.
@MainActor
final class Assistant: ObservableObject {
  @Published private(set) var choices: [Choice] = []
  @Published private(set) var words = ""
  @Published private(set) var status = "Opening the model …"
  @Published private(set) var examples: [String] = []
  @Published private(set) var isReady = false
  private var model: EdgeVLModel?
  private var look: Look?

  var canAsk: Bool { isReady && look != nil }

  /// Opens the bundle of the app. The first time on a device Core ML compiles it, which takes some seconds.
  func open() async {
    guard let folder = Bundle.main.url(forResource: "model", withExtension: "edgevl") else {
      status = "The app holds no model.edgevl: make the project with edgevl app ios."
      return
    }
    await said {
      let model = try await EdgeVLModel.open(at: folder, runtime: CoreMLRuntime())
      self.model = model
      self.examples = model.bundle.exampleTexts
      self.isReady = true
      return "Choose a picture."
    }
  }

  /// Encodes a picture, so that each question about it is quick.
  func look(at file: Data) async {
    await said {
      self.look = nil
      let picture = try await Task.detached { try Picture(file: file) }.value
      self.look = try await self.model?.look(picture)
      return "Ask about it."
    }
  }

  func ask(_ text: String) async {
    await said {
      guard let answer = try await self.look?.ask(text) else { return self.status }
      self.words = answer.text
      self.choices = answer.choices()
      return "\(Int(answer.milliseconds.rounded())) ms"
    }
  }

  /// Replays the golden cases of the bundle on this device.
  func test() async {
    await said {
      guard let count = try await self.model?.replayGolden() else { return self.status }
      return "\(count) golden cases pass on this device."
    }
  }

  private func said(_ work: () async throws -> String) async {
    do {
      status = try await work()
    } catch {
      status = error.localizedDescription
    }
  }
}
