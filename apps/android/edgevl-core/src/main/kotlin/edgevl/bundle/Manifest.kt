package edgevl.bundle

internal typealias Json = Map<String, Any?>

@Suppress("UNCHECKED_CAST")
internal fun Json.obj(key: String): Json = this[key] as Json

@Suppress("UNCHECKED_CAST")
internal fun Json.objects(key: String): List<Json> = this[key] as List<Json>

internal fun Json.text(key: String): String = this[key] as String

internal fun Json.int(key: String): Int = (this[key] as Long).toInt()

internal fun Json.ints(key: String): List<Int> = (this[key] as List<*>).map { (it as Long).toInt() }

/** Type of the numbers of a tensor, with their size in bytes. */
enum class DType(
    val bytes: Int,
) {
    UINT8(1),
    INT8(1),
    INT32(4),
    INT64(8),
    FLOAT16(2),
    FLOAT32(4),
    ;

    val isFloat get() = this == FLOAT16 || this == FLOAT32
    val word get() = name.lowercase()

    internal companion object {
        fun of(word: String) = entries.first { it.word == word }
    }
}

/** Where an input of a program comes from: see "Sources" of docs/bundle.md. */
sealed interface Source {
    /** The word of the manifest. */
    val kind: String

    data class Picture(
        val index: Int,
        val processing: String,
    ) : Source {
        override val kind get() = "picture"
    }

    /** [mask]: 1 for start, pieces and stop, 0 for the padding behind them, instead of the token ids. */
    data class Text(
        val index: Int,
        val processing: String,
        val mask: Boolean,
    ) : Source {
        override val kind get() = "text"
    }

    /** [pictures] and [texts]: those that the other program sees; null means all. */
    data class Value(
        val name: String,
        val pictures: List<Int>?,
        val texts: List<Int>?,
    ) : Source {
        override val kind get() = "value"
    }

    /** An output of the step before; in the first step the value [start], or zeros. */
    data class State(
        val name: String,
        val start: String?,
    ) : Source {
        override val kind get() = "state"
    }

    data object Token : Source {
        override val kind get() = "token"
    }

    data object Step : Source {
        override val kind get() = "step"
    }

    /** May only the program of a loop read it? */
    val isOfALoop get() = this is State || this is Token || this is Step
}

/** A tensor of a program. [range]: least and largest value; null: not said. [shape] begins with the batch. */
data class TensorSpec(
    val name: String,
    val dtype: DType,
    val shape: List<Int>,
    val layout: String,
    val range: List<Double>?,
    val isImage: Boolean = false,
    val source: Source? = null,
) {
    /** Where an input comes from. */
    val from: Source get() = source ?: error("$name is an output")
}

/** One artifact with named inputs and outputs. */
data class Program(
    val name: String,
    val artifact: String,
    val precision: String,
    val inputs: List<TensorSpec>,
    val outputs: List<TensorSpec>,
) {
    val batch get() = outputs.first().shape.first()
}

/** How a picture becomes uint8 [size, size, 3]. */
data class ImageProcessing(
    val size: Int,
    val geometry: String,
    val kernel: String,
    val shortestEdge: Int?,
)

/** How a text becomes [length] token ids. */
data class TextProcessing(
    val kind: String,
    val file: String,
    val length: Int,
    val vocabSize: Int,
    val padId: Int,
    val startId: Int?,
    val stopId: Int?,
    val allowsEmpty: Boolean,
)

data class FileEntry(
    val sha256: String,
    val bytes: Long,
)

/** A manifest of schema 2 whose fields fit their schema. [json] is all of it, measured sections too. */
class Manifest internal constructor(
    val json: Map<String, Any?>,
) {
    val name = json.text("name")
    val task = json.text("task")
    val target = json.text("target")
    val precision = json.text("precision")
    val license = json.text("license")
    val golden = json.text("golden")
    val programs = json.objects("programs").map(::program)
    val labels = labels(json)
    internal val decoding = json.obj("decoding")
    val imageProcessing = named(json.obj("image_processing"), ::imageProcessing)
    val textProcessing = named(json.obj("text_processing"), ::textProcessing)
    val files = named(json.obj("files")) { FileEntry(it.text("sha256"), it["bytes"] as Long) }

    /** The version of EdgeVL that wrote the bundle, as it says. */
    val edgevl: String? = json.obj("versions")["edgevl"] as String?

    /** The JSON files that a manifest names: of tokenizers, labels and golden cases. */
    internal val texts: List<String>
        get() = textProcessing.values.map { it.file } + listOfNotNull(labels?.first) + golden
}

private fun <T> named(
    values: Json,
    make: (Json) -> T,
): Map<String, T> = values.keys.associateWith { make(values.obj(it)) }

private fun labels(manifest: Json): Pair<String, Int>? {
    if (manifest["labels"] == null) return null
    val labels = manifest.obj("labels")
    return labels.text("file") to labels.int("count")
}

private fun program(values: Json) =
    Program(
        values.text("name"),
        values.text("artifact"),
        values.text("precision"),
        values.objects("inputs").map { tensor(it, source(it.obj("from"))) },
        values.objects("outputs").map { tensor(it, null) },
    )

internal fun tensor(
    values: Json,
    source: Source?,
): TensorSpec {
    val range = (values["range"] as List<*>?)?.map { (it as Number).toDouble() }
    val isImage = (values["kind"] ?: "tensor") == "image"
    val dtype = DType.of(values.text("dtype"))
    return TensorSpec(values.text("name"), dtype, values.ints("shape"), values.text("layout"), range, isImage, source)
}

private fun source(values: Json): Source {
    val index = if ("index" in values) values.int("index") else 0
    val processing = (values["processing"] ?: "main") as String
    return when (values.text("kind")) {
        "picture" -> Source.Picture(index, processing)
        "text" -> Source.Text(index, processing, values["part"] == "mask")
        "value" -> Source.Value(values.text("name"), chosen(values, "pictures"), chosen(values, "texts"))
        "state" -> Source.State(values.text("name"), values["start"] as String?)
        "token" -> Source.Token
        else -> Source.Step
    }
}

private fun chosen(
    values: Json,
    key: String,
): List<Int>? = if (values[key] == null) null else values.ints(key)

private fun imageProcessing(values: Json): ImageProcessing {
    val edge = if (values["shortest_edge"] == null) null else values.int("shortest_edge")
    return ImageProcessing(values.int("size"), values.text("geometry"), values.text("kernel"), edge)
}

private fun textProcessing(values: Json) =
    TextProcessing(
        values.text("kind"),
        values.text("file"),
        values.int("length"),
        values.int("vocab_size"),
        values.int("pad_id"),
        if (values["start_id"] == null) null else values.int("start_id"),
        if (values["stop_id"] == null) null else values.int("stop_id"),
        values["empty"] == "allow",
    )
