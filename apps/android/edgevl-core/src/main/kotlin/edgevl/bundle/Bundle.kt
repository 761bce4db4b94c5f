package edgevl.bundle

import edgevl.BundleRefused
import edgevl.decoding.Decoding
import edgevl.json.Schema
import edgevl.json.SchemaError
import edgevl.json.Unreadable
import edgevl.json.strictJson
import edgevl.text.TextCodec
import java.io.File
import java.io.IOException

private const val NEWEST = 2
private const val MAX_LABEL = 2000
private const val MIN_SIDE_WITH_DOMAIN = 8
private val DECODINGS =
    mapOf("classify" to "ClassifyFields", "rank" to "RankFields", "generate" to "GenerateFields", "box" to "BoxFields")

/**
 * A bundle whose every file is the one in its manifest, and says what docs/bundle.md allows. It knows no task.
 *
 * Open one with [open]; what is refused throws [BundleRefused] with one sentence.
 */
class Bundle private constructor(
    private val files: BundleFiles,
) {
    val manifest: Manifest = readManifest()

    init {
        manifestProblem(manifest)?.let { invalid(MANIFEST, it) }
        files.list()?.let { folderProblem(manifest, it) }?.let { refuse("$it; copy the bundle again") }
        manifest.files.forEach(::checkDigest)
    }

    /** The answers that `classify` chooses from, in the order of the scores; null if there are none. */
    val labels: List<String>? = readLabels()

    /** The tokenizer of each text processing. */
    val texts: Map<String, TextCodec> =
        manifest.textProcessing.mapValues { (_, spec) -> TextCodec.open(spec, json(spec.file)) }

    val decoding: Decoding = Decoding.of(manifest, labels, texts)
    internal val golden: Json = readGolden()

    init {
        if (DOMAIN in manifest.files) checkDomain()
    }

    /** Texts of the golden cases, each once: examples of what can be asked. */
    val exampleTexts: List<String>
        get() = golden.objects("cases").flatMap { case -> (case["texts"] as List<*>).map { it as String } }.distinct()

    /** Return the bytes of a file that the manifest lists: those that have its digest, whatever happened since. */
    fun read(path: String): ByteArray {
        val entry = manifest.files[path] ?: refuse("$path is not among the files of $MANIFEST")
        val bytes = reading(path) { files.read(path, entry.bytes) }
        compare(path, entry, sha256(bytes))
        return bytes
    }

    private fun checkDigest(
        path: String,
        entry: FileEntry,
    ) {
        val (sha256, size) = reading(path) { files.digest(path, entry.bytes) }
        if (size < entry.bytes) refuse("$path is truncated: $size bytes, the manifest says ${entry.bytes}; copy the bundle again")
        compare(path, entry, sha256)
    }

    private fun compare(
        path: String,
        entry: FileEntry,
        sha256: String,
    ) {
        if (sha256 != entry.sha256) refuse("$path has changed: its sha256 is not the one in the manifest; copy the bundle again")
    }

    private fun <T> reading(
        path: String,
        read: () -> T,
    ): T =
        try {
            read()
        } catch (error: IOException) {
            refuse("$path of the bundle ${files.name} cannot be read: ${error.message}; copy the bundle again")
        }

    private fun json(path: String): Any? {
        val bytes = if (path == MANIFEST) reading(path) { files.read(path, MAX_TEXT_BYTES) } else read(path)
        return try {
            strictJson(bytes)
        } catch (error: Unreadable) {
            invalid(path, error.message)
        }
    }

    private fun readManifest(): Manifest {
        val values = json(MANIFEST)
        val version = (values as? Map<*, *>)?.get("schema_version")
        if (version is Long && version > NEWEST) {
            refuse("the bundle has schema version $version, this library reads up to $NEWEST: update it")
        }
        val newer = if (version == 1L) upgradedManifest(valid(values, "Manifest", MANIFEST, 1)) else values
        val checked = valid(newer, "Manifest", MANIFEST)
        val kind = checked.obj("decoding")["kind"]
        val fields = DECODINGS[kind] ?: refuse("$MANIFEST: the decoding $kind is not known, only ${DECODINGS.keys}: update this library")
        valid(checked["decoding"], fields, "$MANIFEST, decoding")
        return Manifest(checked)
    }

    private fun readLabels(): List<String>? {
        val (file, count) = manifest.labels ?: return null
        val labels = json(file) as? List<*> ?: invalid(file, "it is no list of texts")
        val texts = labels.filterIsInstance<String>().filter { it.codePointCount(0, it.length) <= MAX_LABEL }
        if (texts.size != labels.size ||
            texts.size != count
        ) {
            invalid(file, "it does not hold $count labels of at most $MAX_LABEL characters")
        }
        return texts
    }

    private fun readGolden(): Json {
        var values = json(manifest.golden)
        if ((values as? Map<*, *>)?.get("schema_version") == 1L) {
            values = upgradedGolden(valid(values, "GoldenFile", manifest.golden, 1))
        }
        val golden = valid(values, "GoldenFile", manifest.golden)
        val pictures = golden.objects("cases").flatMap { it["pictures"] as List<*> }
        pictures.firstOrNull { it !in manifest.files }?.let { invalid(manifest.golden, "$it is not among the files") }
        return golden
    }

    /** What the model was trained on, as numbers: nothing here uses it, but what a bundle holds is whole. */
    private fun checkDomain() {
        val domain = valid(json(DOMAIN), "Domain", DOMAIN)
        if (domain["checkpoint_sha256"] !=
            manifest.json.obj("provenance")["checkpoint_sha256"]
        ) {
            invalid(DOMAIN, "it was made with other weights")
        }
        val side = manifest.imageProcessing.values.minOfOrNull { it.size } ?: 0
        if (side < MIN_SIDE_WITH_DOMAIN ||
            (domain["pictures"] as List<*>).size < domain.int("neighbors")
        ) {
            invalid(DOMAIN, "it does not fit")
        }
    }

    companion object {
        /** Open the bundle in a folder. Throws [BundleRefused]. */
        fun open(folder: File): Bundle = open(FolderFiles(folder))

        /** Open a bundle wherever its files lie. Throws [BundleRefused]. */
        fun open(files: BundleFiles): Bundle = Bundle(files)
    }
}

/** Return parsed JSON that is what a version's schema calls [definition]. Throws [BundleRefused] naming the file. */
@Suppress("UNCHECKED_CAST")
private fun valid(
    values: Any?,
    definition: String,
    file: String,
    version: Int = NEWEST,
): Json {
    val resource = if (version == 1) "bundle-1.schema.json" else "bundle.schema.json"
    val document = Bundle::class.java.getResourceAsStream("/edgevl/$resource")!!.use { strictJson(it.readBytes()) }
    try {
        Schema(document, FORMATS).check(values, definition)
    } catch (error: SchemaError) {
        invalid(file, error.message)
    }
    return values as Json
}

private fun invalid(
    file: String,
    what: String?,
): Nothing = refuse("$file is not valid: $what; copy the bundle again")

internal fun refuse(message: String): Nothing = throw BundleRefused(message)
