/// Reads bundles of schema 1 as if they had been written as schema 2.

private let kept = [
  "name", "task", "target", "precision", "labels", "golden", "license", "files", "versions", "parity", "accuracy", "audit", "bench",
]
private let sources: JSONObject = [
  "image": ["kind": "picture"], "input_ids": ["kind": "text"], "visual": ["kind": "value", "name": "visual", "texts": []],
]

/// Returns a manifest of schema 1, which fits its schema, as schema 2. Throws if it breaks the rules of schema 1.
func upgradedManifest(_ manifest: JSONObject) throws -> JSONObject {
  if let problem = try schema1Problem(manifest) { try refuse("\(manifestName) is not valid: \(problem); copy the bundle again") }
  var newer = JSONObject()
  for key in kept { newer[key] = manifest[key] }
  newer["schema_version"] = 2
  newer["layout"] = manifest["layout"] ?? "single"
  newer["options"] = manifest["options"] ?? [:]
  newer["decoding"] = ["kind": "classify", "output": "logits", "activation": "softmax"]
  newer["programs"] = .list(try upgradedPrograms(manifest))
  newer["image_processing"] = ["main": manifest["preprocessing"] ?? .null]
  newer["text_processing"] = ["main": .object(try upgradedTexts(manifest.object("tokenizer")))]
  var provenance = try manifest.object("provenance")
  provenance["model"] = manifest["model"]
  newer["provenance"] = .object(provenance)
  return newer
}

private func upgradedTexts(_ tokenizer: JSONObject) -> JSONObject {
  var text: JSONObject = ["kind": "wordpiece", "start_id": 2, "stop_id": 3, "empty": "refuse"]
  for key in ["file", "length", "vocab_size"] { text[key] = tokenizer[key] }
  text["pad_id"] = tokenizer["pad_id"] ?? 0
  return text
}

/// Returns the programs of a manifest of schema 1; none where it is one artifact.
func programsOfSchema1(_ manifest: JSONObject) throws -> [JSONObject] {
  manifest.has("programs") ? try manifest.objects("programs") : []
}

private func upgradedPrograms(_ manifest: JSONObject) throws -> [JSONValue] {
  var programs = try programsOfSchema1(manifest)
  if programs.isEmpty {
    var model = manifest
    model["name"] = "model"
    programs = [model]
  }
  return try programs.map { program in
    let inputs = try program.objects("inputs").map { input -> JSONValue in
      var newer = input
      newer["from"] = sources[try input.text("name")]
      return .object(newer)
    }
    let outputs = try program.objects("outputs").map { output -> JSONValue in
      var newer = output
      newer["kind"] = nil
      return .object(newer)
    }
    return [
      "name": program["name"] ?? .null, "artifact": program["artifact"] ?? .null, "precision": manifest["precision"] ?? .null,
      "inputs": .list(inputs), "outputs": .list(outputs),
    ]
  }
}

/// Returns a golden file of schema 1 as schema 2.
func upgradedGolden(_ golden: JSONObject) throws -> JSONObject {
  let cases = try golden.objects("cases").map { entry -> JSONValue in
    let logits = try entry.list("logits")
    func field(_ key: String) -> JSONValue { entry[key] ?? .null }
    return [
      "pictures": [field("image")], "texts": [field("question")], "pixels_sha256": ["main": [field("pixels_sha256")]],
      "input_ids": ["main": [field("input_ids")]],
      "values": ["logits": ["shape": [1, .integer(logits.count)], "data": .list(logits)]],
      "result": [field("answer")], "margins": logits.count > 1 ? [field("margin")] : [],
    ]
  }
  return ["schema_version": 2, "tolerance": ["logits": golden["tolerance"] ?? .null], "cases": .list(cases)]
}
