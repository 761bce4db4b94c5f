import EdgeVLKit
import PhotosUI
import SwiftUI

/// Choose a picture, ask, read the answer.
struct AskView: View {
  @EnvironmentObject private var assistant: Assistant
  @State private var item: PhotosPickerItem?
  @State private var image: Image?
  @State private var text = ""

  var body: some View {
    NavigationStack {
      List {
        Section { picture }
        Section { question }
        if !assistant.words.isEmpty { Section { answer } }
        Section { Text(assistant.status).font(.footnote).foregroundStyle(.secondary) }
      }
      .navigationTitle("EdgeVL")
      .toolbar {
        Button("Test this device") { Task { await assistant.test() } }.disabled(!assistant.isReady)
      }
    }
    .onChange(of: item) { chosen in Task { await show(chosen) } }
  }

  // JPEG, not HEIC: its pixels are those that the contract knows.
  private var picture: some View {
    PhotosPicker(selection: $item, matching: .images, preferredItemEncoding: .compatible) {
      VStack {
        image?.resizable().scaledToFit().frame(maxHeight: 280).accessibilityLabel("The picture")
        Label("Choose a picture", systemImage: "photo")
      }
      .frame(maxWidth: .infinity, minHeight: 48)
    }
    .disabled(!assistant.isReady)
  }

  private var question: some View {
    VStack(alignment: .leading) {
      TextField("Ask about the picture", text: $text).submitLabel(.search).onSubmit(ask)
      ScrollView(.horizontal, showsIndicators: false) {
        HStack { ForEach(assistant.examples, id: \.self) { example in Button(example) { askExample(example) }.buttonStyle(.bordered) } }
      }
    }
    .disabled(!assistant.canAsk)
  }

  private var answer: some View {
    VStack(alignment: .leading) {
      Text(assistant.words).font(.title)
      ForEach(assistant.choices, id: \.label) { choice in
        ProgressView(value: choice.share) { Text("\(choice.label), \(Int((100 * choice.share).rounded())) %") }
      }
    }
  }

  private func askExample(_ example: String) {
    text = example
    ask()
  }

  private func ask() { Task { await assistant.ask(text) } }

  private func show(_ chosen: PhotosPickerItem?) async {
    guard let data = try? await chosen?.loadTransferable(type: Data.self) else { return }
    image = UIImage(data: data).map { Image(uiImage: $0) }
    await assistant.look(at: data)
  }
}
