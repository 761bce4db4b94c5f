package edgevl.text

import edgevl.bundle.TextProcessing

/** What a tokenizer.json says, held against the only settings that docs/bundle.md gives steps for. */
internal const val MAX_PIECES = 1 shl 20

/** Any value will do. */
internal object Anything

/** One of several values; [Missing] among them lets the field be left out. */
internal class OneOf(
    vararg val values: Any?,
)

internal object Missing

@Suppress("UNCHECKED_CAST")
internal fun objectOf(
    value: Any?,
    what: String,
): Map<String, Any?> = value as? Map<String, Any?> ?: throw WrongTokenizer("$what is no object")

/** Throw [WrongTokenizer] unless [found] has the fields of [wanted] and no others, each with such a value. */
internal fun compare(
    found: Map<String, Any?>,
    wanted: Map<String, Any?>,
    where: String = "",
) {
    for (key in (wanted.keys + found.keys).sorted()) {
        val own = if (key in found) found[key] else Missing
        if (key !in wanted) throw WrongTokenizer("it has the field $where$key, which is not known")
        if (!fits(own, wanted[key])) throw WrongTokenizer("$where$key is ${shown(own)}, it must be ${shown(wanted[key])}")
    }
}

private fun fits(
    own: Any?,
    wanted: Any?,
): Boolean =
    when (wanted) {
        Anything -> true
        is OneOf -> wanted.values.any { fits(own, it) }
        is Map<*, *> ->
            own is Map<*, *> &&
                (own.keys + wanted.keys).all { fits(if (it in own) own[it] else Missing, if (it in wanted) wanted[it] else Missing) }
        is List<*> -> own is List<*> && own.size == wanted.size && own.indices.all { fits(own[it], wanted[it]) }
        else -> own == wanted
    }

private fun shown(value: Any?): String =
    when (value) {
        Missing -> "missing"
        is OneOf -> value.values.joinToString(" or ", transform = ::shown)
        else -> value.toString().take(80)
    }

/** Return the vocabulary of a model: pieces to the numbers from 0, each once. */
internal fun vocabularyOf(value: Any?): Map<String, Int> {
    val values = objectOf(value, "model.vocab")
    if (values.isEmpty() || values.size > MAX_PIECES) throw WrongTokenizer("model.vocab must have 1 to $MAX_PIECES pieces")
    val seen = BooleanArray(values.size)
    return values.mapValues { (_, id) ->
        if (id !is Long ||
            id !in 0L until values.size ||
            seen[id.toInt()]
        ) {
            throw WrongTokenizer("the ids of model.vocab must be the numbers from 0, each once")
        }
        seen[id.toInt()] = true
        id.toInt()
    }
}

/** Throw [WrongTokenizer] where the manifest says something else than the file. */
internal fun compareSpec(
    spec: TextProcessing,
    found: Map<String, Pair<Any?, Any?>>,
) {
    for ((name, values) in found) {
        if (values.first !=
            values.second
        ) {
            throw WrongTokenizer("$name of the manifest is ${values.first}, ${spec.file} has ${values.second}")
        }
    }
}
