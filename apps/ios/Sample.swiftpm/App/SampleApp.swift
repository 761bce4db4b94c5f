import SwiftUI

@main
struct SampleApp: App {
  @StateObject private var assistant = Assistant()

  var body: some Scene {
    WindowGroup { AskView().environmentObject(assistant).task { await assistant.open() } }
  }
}
