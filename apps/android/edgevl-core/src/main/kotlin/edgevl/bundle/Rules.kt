package edgevl.bundle

/** Say where the paths and the tensors of a manifest break the rules of docs/bundle.md; null if they keep them. */
internal fun manifestProblem(manifest: Manifest): String? = pathsProblem(manifest) ?: programsProblem(manifest) ?: filesProblem(manifest)

private fun pathsProblem(manifest: Manifest): String? {
    val files = manifest.files.keys
    val artifacts = manifest.programs.map { it.artifact }
    manifest.texts.firstOrNull { it !in files }?.let { return "\"$it\" is not among the files" }
    for (artifact in artifacts) {
        if (files.none { inside(it, artifact) }) return "the artifact \"$artifact\" is not among the files"
        if (artifacts.count { inside(it, artifact) } > 1) return "the artifact \"$artifact\" is there twice, or holds another"
    }
    if (MANIFEST in files) return "$MANIFEST cannot hold its own digest"
    val same = files.map(::folded).toSet().size != files.size
    return if (same) "two files differ only in upper and lower case, or in how Unicode spells them" else null
}

private fun inside(
    path: String,
    folder: String,
) = "$path/".startsWith("$folder/")

// ---- programs and their tensors --------------------------------------------------------------------------------------

private fun programsProblem(manifest: Manifest): String? {
    val programs = manifest.programs
    if (programs.map { it.name }.toSet().size != programs.size) return "two programs have one name"
    if (programs.none { it.precision == manifest.precision }) return "no program is of the precision ${manifest.precision}"
    return manifest.imageProcessing.values.firstNotNullOfOrNull(::edgeProblem)
        ?: callsProblem(programs)
        ?: programs.firstNotNullOfOrNull { program -> programProblem(program) ?: inputsProblem(program, manifest) }
}

private fun edgeProblem(processing: ImageProcessing): String? {
    val edge = processing.shortestEdge ?: return null
    if (processing.geometry != "shortest-edge") return "shortest_edge does not go with the geometry ${processing.geometry}"
    return if (edge < processing.size) "shortest_edge $edge is below the size ${processing.size}" else null
}

private fun callsProblem(programs: List<Program>): String? {
    val outputs = programs.flatMap { it.outputs }
    val given = outputs.associateBy { it.name }
    if (given.size != outputs.size) return "two programs give a value of the same name"
    val loops = programs.filter { program -> program.inputs.any { it.from.isOfALoop } }.flatMap { it.outputs }.map { it.name }
    for (program in programs) {
        for (spec in program.inputs) {
            val name = needed(spec) ?: continue
            val where = "${program.name}: ${spec.name} needs the value $name"
            if (name in loops) return "$where, which a loop gives"
            if (!sameRow(spec, given[name])) return "$where, which no program gives so"
        }
    }
    return cyclic(programs)?.let { "$it depends on itself" }
}

/** Name of the value of another program that an input reads. */
private fun needed(spec: TensorSpec): String? =
    when (val source = spec.from) {
        is Source.Value -> source.name
        is Source.State -> source.start
        else -> null
    }

private fun sameRow(
    spec: TensorSpec,
    other: TensorSpec?,
) = other != null && spec.dtype == other.dtype && spec.shape.drop(1) == other.shape.drop(1)

/** The name of a program that is never ready, whatever is computed first; null if there is none. */
private fun cyclic(programs: List<Program>): String? {
    val makers = programs.flatMap { program -> program.outputs.map { it.name to program.name } }.toMap()
    val waiting = programs.associateTo(LinkedHashMap()) { it.name to it.inputs.mapNotNull(::needed).map(makers::getValue) }
    while (true) {
        val ready = waiting.filterValues { needs -> needs.none(waiting::containsKey) }.keys.toList()
        if (ready.isEmpty()) return waiting.keys.firstOrNull()
        ready.forEach(waiting::remove)
    }
}

private fun programProblem(program: Program): String? {
    val tensors = program.inputs + program.outputs
    if (tensors.map { it.name }.toSet().size != tensors.size) return "${program.name} has two tensors of one name"
    if (tensors.map { it.shape[0] }.toSet().size != 1) return "the tensors of ${program.name} have different batches"
    val misfit = tensors.firstOrNull { it.layout.length != it.shape.size }
    return misfit?.let { "${program.name}: the layout \"${it.layout}\" of ${it.name} does not fit its shape" }
}

private fun inputsProblem(
    program: Program,
    manifest: Manifest,
): String? {
    val loops = program.name == manifest.decoding["program"]
    for (spec in program.inputs) {
        val where = "${program.name}: ${spec.name}"
        if (spec.from.isOfALoop && !loops) return "$where is a ${spec.from.kind}, which only the program of a loop may read"
        if (spec.isImage && spec.from !is Source.Picture) return "$where is said to be a picture, but is a ${spec.from.kind}"
        sourceProblem(program, spec, manifest)?.let { return "$where $it" }
    }
    return null
}

private fun sourceProblem(
    program: Program,
    spec: TensorSpec,
    manifest: Manifest,
): String? {
    when (val source = spec.from) {
        is Source.Value -> return null
        is Source.State -> {
            val other = program.outputs.firstOrNull { it.name == source.name }
            val fits = other != null && other.dtype == spec.dtype && other.shape == spec.shape
            return if (fits) null else "does not fit an output ${source.name}"
        }
        is Source.Picture -> {
            val processing = manifest.imageProcessing[source.processing] ?: return missing(source.processing)
            return if (isPicture(spec, processing.size)) null else "is not what a picture of ${processing.size} pixels is"
        }
        is Source.Text -> {
            val processing = manifest.textProcessing[source.processing] ?: return missing(source.processing)
            val last = if (source.mask) 1.0 else processing.vocabSize - 1.0
            val fits = isWhole(spec) && spec.layout == "NT" && spec.shape == listOf(program.batch, processing.length)
            return if (fits && spec.range == listOf(0.0, last)) null else "is not what a text of ${processing.length} tokens is"
        }
        Source.Token, Source.Step -> {
            val shapes = mapOf("NT" to listOf(program.batch, 1), "N" to listOf(program.batch))
            val fits = isWhole(spec) && spec.shape == shapes[spec.layout] && (spec.range == null || spec.range[0] == 0.0)
            return if (fits) null else "is not what a ${source.kind} is"
        }
    }
}

private fun missing(processing: String) = "names the processing \"$processing\", there is none"

private fun isWhole(spec: TensorSpec) = spec.dtype == DType.INT32 || spec.dtype == DType.INT64

private fun isPicture(
    spec: TensorSpec,
    size: Int,
): Boolean {
    if (spec.range != listOf(0.0, 255.0)) return false
    val batch = spec.shape[0]
    val pixels = !spec.isImage && spec.dtype == DType.UINT8 && spec.layout == "NHWC"
    val platform = spec.isImage && spec.dtype == DType.FLOAT32 && spec.layout == "NCHW"
    return (pixels && spec.shape == listOf(batch, size, size, 3)) || (platform && spec.shape == listOf(batch, 3, size, size))
}
