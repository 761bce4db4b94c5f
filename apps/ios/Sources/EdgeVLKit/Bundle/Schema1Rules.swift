private let maxGrid = 128
private let maxParameters = Double(1 << 30)
private let largestOption = 4096.0
private let refusedOptions = [
  "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit",
  "features_only", "out_indices",
]

/// Says where a manifest of schema 1, which fits its schema, breaks the rules of schema 1; nil if it keeps them.
func schema1Problem(_ manifest: JSONObject) throws -> String? {
  let model = try manifest.object("model")
  if let problem = try layoutProblem(manifest) { return problem }
  if let problem = try modelProblem(model) { return "model: \(problem)" }
  if let problem = try twiceProblem(manifest, model) { return problem }
  if let problem = try tensorsProblem(manifest, ["image", "input_ids"], ["logits"], manifest) { return problem }
  for program in try programsOfSchema1(manifest) {
    let isVision = try program.text("name") == "vision"
    let (inputs, outputs) = isVision ? (["image"], ["visual"]) : (["visual", "input_ids"], ["logits"])
    if let problem = try tensorsProblem(program, inputs, outputs, manifest) { return problem }
  }
  return nil
}

private func layoutProblem(_ manifest: JSONObject) throws -> String? {
  let programs = try programsOfSchema1(manifest)
  let layout = manifest["layout"]?.text ?? "single"
  let names = try programs.map { try $0.text("name") }
  if names != (layout == "split" ? ["vision", "fusion"] : []) { return "programs \(names) do not fit the layout '\(layout)'" }
  let folder = try manifest.text("artifact")
  let outside = try programs.first { try !$0.text("artifact").startsExactly(with: "\(folder)/") }
  return outside.map { "'\($0["artifact"]?.text ?? "")' is not inside the artifact '\(folder)'" }
}

/// Sizes are below 2^40 by their schema; a double counts parameters without overflow.
private func modelProblem(_ model: JSONObject) throws -> String? {
  let (image, stride) = (try model.integer("image_size"), try model.integer("stride"))
  let (width, heads) = (try model.integer("width"), try model.integer("heads"))
  if stride < 1 || image % stride != 0 { return "image_size \(image) is not a multiple of the stride \(stride)" }
  if heads < 1 || width % heads != 0 { return "width \(width) is not a multiple of heads \(heads)" }
  let grid = image / stride
  if grid > maxGrid {
    return "image_size \(image) and stride \(stride) make \(grid) visual tokens along a side, at most \(maxGrid) are allowed"
  }
  let tokens = try ["vocab_size", "num_answers", "text_length"].reduce(Double(grid * grid)) { $0 + Double(try model.integer($1)) }
  let block = (4 + 2 * Double(try model.integer("mlp_ratio"))) * Double(width) * Double(width)
  let parameters = Double(try model.integer("depth")) * block + tokens * Double(width)
  if parameters > maxParameters { return "the sizes make more than 2^30 parameters" }
  return optionsProblem(model["backbone_options"] ?? .null)
}

private func optionsProblem(_ options: JSONValue) -> String? {
  if let number = options.number, abs(number) > largestOption { return "backbone_options holds a number beyond \(largestOption)" }
  if let name = options.object?.keys.first(where: refusedOptions.containsExactly) { return "backbone_options holds \(name)" }
  for inner in options.object?.values ?? options.list ?? [] { if let problem = optionsProblem(inner) { return problem } }
  return nil
}

private func twiceProblem(_ manifest: JSONObject, _ model: JSONObject) throws -> String? {
  let tokenizer = try manifest.object("tokenizer")
  let pairs: [(String, JSONValue?, JSONValue?)] = [
    ("name", manifest["name"], model["name"]), ("task", manifest["task"], model["task"]), ("task", manifest["task"], "vqa"),
    ("preprocessing.size", try manifest.object("preprocessing")["size"], model["image_size"]),
    ("tokenizer.length", tokenizer["length"], model["text_length"]),
    ("labels.count", try manifest.object("labels")["count"], model["num_answers"]),
  ]
  for (name, found, wanted) in pairs where found != wanted {
    return "\(name) is \(found?.shown ?? "missing"), it must be \(wanted?.shown ?? "missing")"
  }
  let isMore = try tokenizer.integer("vocab_size") > model.integer("vocab_size")
  return isMore ? "tokenizer.vocab_size is more than model.vocab_size" : nil
}

private func tensorsProblem(_ part: JSONObject, _ inputs: [String], _ outputs: [String], _ manifest: JSONObject) throws -> String? {
  let sides = (try part.objects("inputs").map(TensorSpec.init), try part.objects("outputs").map(TensorSpec.init))
  if sides.0.map(\.name) != inputs { return "the inputs must be \(inputs)" }
  if sides.1.map(\.name) != outputs { return "the outputs must be \(outputs)" }
  let wrong = try (sides.0 + sides.1).first { try !expected($0.name, manifest).contains($0) }
  return wrong.map { "\($0.name) is said to be \($0.dtype.rawValue) \($0.shape) \($0.layout)" }
}

/// Returns what a tensor of schema 1 may be. Shapes: B batch, S side, T tokens, V visual tokens, D width, A answers.
private func expected(_ name: String, _ manifest: JSONObject) throws -> [TensorSpec] {
  let (model, tokenizer) = (try manifest.object("model"), try manifest.object("tokenizer"))
  let batch = try manifest.objects("inputs").first?.integers("shape").first ?? 1
  let size = try manifest.object("preprocessing").integer("size")
  let grid = try model.integer("image_size") / max(model.integer("stride"), 1)
  func spec(_ dtype: DType, _ shape: [Int], _ layout: String, _ range: [Double]? = nil, isImage: Bool = false) -> TensorSpec {
    TensorSpec(name: name, dtype: dtype, shape: shape, layout: layout, range: range, isImage: isImage)
  }
  switch name {
  case "image":
    let planes = spec(.float32, [batch, 3, size, size], "NCHW", [0, 255], isImage: true)
    return [spec(.uint8, [batch, size, size, 3], "NHWC", [0, 255]), planes]
  case "input_ids":
    let last = Double(try tokenizer.integer("vocab_size") - 1)
    return [spec(.int32, [batch, try tokenizer.integer("length")], "NT", [0, last])]
  case "visual": return [spec(.float32, [batch, grid * grid, try model.integer("width")], "NVD")]
  default: return [spec(.float32, [batch, try manifest.object("labels").integer("count")], "NA")]
  }
}
