package edgevl.bundle

private const val MAX_GRID = 128
private const val MAX_PARAMETERS = 1L shl 30
private const val LARGEST_OPTION = 4096.0
private val NO_OPTIONS =
    setOf(
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
        "scriptable",
        "exportable",
        "no_jit",
        "features_only",
        "out_indices",
    )
private val SAME =
    listOf(
        "name",
        "task",
        "target",
        "precision",
        "labels",
        "golden",
        "license",
        "files",
        "versions",
        "parity",
        "accuracy",
        "audit",
        "bench",
    )
private val SOURCES =
    mapOf(
        "image" to mapOf("kind" to "picture"),
        "input_ids" to mapOf("kind" to "text"),
        "visual" to mapOf("kind" to "value", "name" to "visual", "texts" to emptyList<Any>()),
    )
private val WHOLE = listOf("image", "input_ids") to listOf("logits")
private val OF_PROGRAM =
    mapOf(
        "vision" to (listOf("image") to listOf("visual")),
        "fusion" to (listOf("visual", "input_ids") to listOf("logits")),
    )
private const val START_ID = 2L
private const val STOP_ID = 3L

/** Return a manifest of schema 1, which fits its schema, as schema 2. Throws if it breaks the rules of schema 1. */
internal fun upgradedManifest(manifest: Json): Json {
    schema1Problem(manifest)?.let { refuse("$MANIFEST is not valid: $it; copy the bundle again") }
    val programs = programsOf(manifest).ifEmpty { listOf(manifest + ("name" to "model")) }
    val tokenizer = manifest.obj("tokenizer")
    val text = mapOf("kind" to "wordpiece", "pad_id" to (tokenizer["pad_id"] ?: 0L), "start_id" to START_ID, "stop_id" to STOP_ID)
    return SAME.filter { it in manifest }.associateWith { manifest[it] } +
        mapOf(
            "schema_version" to 2L,
            "layout" to (manifest["layout"] ?: "single"),
            "options" to (manifest["options"] ?: emptyMap<String, Any>()),
            "decoding" to mapOf("kind" to "classify", "output" to "logits", "activation" to "softmax"),
            "programs" to programs.map { upgradedProgram(it, manifest["precision"]) },
            "image_processing" to mapOf("main" to manifest["preprocessing"]),
            "text_processing" to
                mapOf("main" to text + listOf("file", "length", "vocab_size").associateWith { tokenizer[it] } + ("empty" to "refuse")),
            "provenance" to manifest.obj("provenance") + ("model" to manifest["model"]),
        )
}

private fun programsOf(manifest: Json): List<Json> = if (manifest["programs"] == null) emptyList() else manifest.objects("programs")

private fun upgradedProgram(
    program: Json,
    precision: Any?,
): Json =
    mapOf(
        "name" to program["name"],
        "artifact" to program["artifact"],
        "precision" to precision,
        "inputs" to program.objects("inputs").map { it + ("from" to SOURCES[it.text("name")]) },
        "outputs" to program.objects("outputs").map { it - "kind" },
    )

/** Return a golden file of schema 1 as schema 2. */
internal fun upgradedGolden(golden: Json): Json =
    mapOf(
        "schema_version" to 2L,
        "tolerance" to mapOf("logits" to golden["tolerance"]),
        "cases" to golden.objects("cases").map(::upgradedCase),
    )

private fun upgradedCase(case: Json): Json {
    val logits = case["logits"] as List<*>
    return mapOf(
        "pictures" to listOf(case["image"]),
        "texts" to listOf(case["question"]),
        "pixels_sha256" to mapOf("main" to listOf(case["pixels_sha256"])),
        "input_ids" to mapOf("main" to listOf(case["input_ids"])),
        "values" to mapOf("logits" to mapOf("shape" to listOf(1L, logits.size.toLong()), "data" to logits)),
        "result" to listOf(case["answer"]),
        "margins" to if (logits.size > 1) listOf(case["margin"]) else emptyList(),
    )
}

// ---- the rules of schema 1 -------------------------------------------------------------------------------------------

private fun schema1Problem(manifest: Json): String? {
    val model = manifest.obj("model")
    return layoutProblem(manifest) ?: modelProblem(model)?.let { "model: $it" } ?: twiceProblem(manifest, model)
        ?: tensorsProblem(manifest, WHOLE, manifest)
        ?: programsOf(manifest).firstNotNullOfOrNull { tensorsProblem(it, OF_PROGRAM.getValue(it.text("name")), manifest) }
}

private fun layoutProblem(manifest: Json): String? {
    val names = programsOf(manifest).map { it["name"] }
    val layout = manifest["layout"] ?: "single"
    if (names !=
        (
            if (layout ==
                "split"
            ) {
                listOf("vision", "fusion")
            } else {
                emptyList<Any>()
            }
        )
    ) {
        return "programs $names do not fit the layout \"$layout\""
    }
    val outside = programsOf(manifest).firstOrNull { !it.text("artifact").startsWith(manifest.text("artifact") + "/") }
    return outside?.let { "\"${it["artifact"]}\" is not inside the artifact \"${manifest["artifact"]}\"" }
}

private fun modelProblem(model: Json): String? {
    val (image, stride, width) = listOf("image_size", "stride", "width").map { model[it] as Long }
    val grid = image / stride
    val tokens = listOf("vocab_size", "num_answers", "text_length").sumOf { model[it] as Long } + grid * grid
    val block = (4 + 2 * (model["mlp_ratio"] as Long)) * width * width
    return when {
        image % stride != 0L -> "image_size $image is not a multiple of the stride $stride"
        width % (model["heads"] as Long) != 0L -> "width $width is not a multiple of heads ${model["heads"]}"
        grid > MAX_GRID -> "image_size $image and stride $stride make $grid visual tokens along a side, at most $MAX_GRID are allowed"
        (model["depth"] as Long) * block + tokens * width > MAX_PARAMETERS -> "the sizes make more than $MAX_PARAMETERS parameters"
        else -> optionsProblem(model["backbone_options"])
    }
}

private fun optionsProblem(options: Any?): String? {
    if (options is Number && Math.abs(options.toDouble()) > LARGEST_OPTION) return "backbone_options holds a number beyond $LARGEST_OPTION"
    if (options is Map<*, *>) options.keys.firstOrNull { it in NO_OPTIONS }?.let { return "backbone_options holds $it" }
    val inner = (options as? Map<*, *>)?.values ?: options as? List<*> ?: return null
    return inner.firstNotNullOfOrNull(::optionsProblem)
}

private fun twiceProblem(
    manifest: Json,
    model: Json,
): String? {
    val pairs =
        listOf(
            "name" to (manifest["name"] to model["name"]),
            "task" to (manifest["task"] to model["task"]),
            "task" to (manifest["task"] to "vqa"),
            "preprocessing.size" to (manifest.obj("preprocessing")["size"] to model["image_size"]),
            "tokenizer.length" to (manifest.obj("tokenizer")["length"] to model["text_length"]),
            "labels.count" to (manifest.obj("labels")["count"] to model["num_answers"]),
        )
    for ((name, values) in pairs) {
        if (values.first != values.second) return "$name is ${values.first}, it must be ${values.second}"
    }
    val more = manifest.obj("tokenizer").int("vocab_size") > model.int("vocab_size")
    return if (more) "tokenizer.vocab_size is more than model.vocab_size" else null
}

private fun tensorsProblem(
    part: Json,
    names: Pair<List<String>, List<String>>,
    manifest: Json,
): String? {
    val sides = part.objects("inputs") to part.objects("outputs")
    if (sides.first.map { it["name"] } != names.first) return "the inputs must be ${names.first}"
    if (sides.second.map { it["name"] } != names.second) return "the outputs must be ${names.second}"
    val wrong = (sides.first + sides.second).firstOrNull { tensor(it, null) !in expected(it.text("name"), manifest) }
    return wrong?.let { "${it["name"]} is said to be $it" }
}

/** What a tensor of schema 1 may be. Shapes: B batch, S side, T tokens, V visual tokens, D width, A answers. */
private fun expected(
    name: String,
    manifest: Json,
): List<TensorSpec> {
    val model = manifest.obj("model")
    val tokenizer = manifest.obj("tokenizer")
    val batch = manifest.objects("inputs")[0].ints("shape")[0]
    val size = manifest.obj("preprocessing").int("size")
    val grid = model.int("image_size") / model.int("stride")
    val pixels = listOf(0.0, 255.0)
    return when (name) {
        "image" ->
            listOf(
                TensorSpec(name, DType.UINT8, listOf(batch, size, size, 3), "NHWC", pixels),
                TensorSpec(name, DType.FLOAT32, listOf(batch, 3, size, size), "NCHW", pixels, isImage = true),
            )
        "input_ids" -> {
            val last = tokenizer.int("vocab_size") - 1.0
            listOf(TensorSpec(name, DType.INT32, listOf(batch, tokenizer.int("length")), "NT", listOf(0.0, last)))
        }
        "visual" -> listOf(TensorSpec(name, DType.FLOAT32, listOf(batch, grid * grid, model.int("width")), "NVD", null))
        else -> listOf(TensorSpec(name, DType.FLOAT32, listOf(batch, manifest.obj("labels").int("count")), "NA", null))
    }
}
