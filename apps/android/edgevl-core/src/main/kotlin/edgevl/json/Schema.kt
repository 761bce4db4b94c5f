package edgevl.json

import java.math.BigInteger
import java.util.regex.Pattern

/** Where a value does not fit a schema, as "place: what is wrong". */
class SchemaError(
    message: String,
) : Exception(message)

private typealias Object = Map<*, *>

/**
 * Holds parsed JSON against a JSON Schema: the part of it that bundle.schema.json uses, and nothing else.
 *
 * [formats]: name -> a function that says what is wrong with a text, or returns null.
 */
class Schema(
    document: Any?,
    private val formats: Map<String, (String) -> String?>,
) {
    private val definitions = (document as Object)["\$defs"] as Object
    private val patterns = HashMap<String, Pattern>()

    /** Throw [SchemaError] unless [value] is what the definition [name] describes. */
    fun check(
        value: Any?,
        name: String,
    ) = check(value, definitions[name] as Object, "")

    private fun check(
        value: Any?,
        schema: Object,
        where: String,
    ) {
        (schema["\$ref"] as String?)?.let { check(value, definitions[it.substringAfterLast('/')] as Object, where) }
        (schema["anyOf"] as List<*>?)?.let { checkAny(value, it, where) }
        val type = schema["type"] as String?
        if (type != null && !isOf(value, type)) fail(where, "${shown(value)} is no $type")
        for ((keyword, wanted) in schema) {
            val problem = apply(keyword as String, wanted, value, schema, where)
            if (problem != null) fail(where, "${shown(value)} $problem")
        }
    }

    private fun checkAny(
        value: Any?,
        schemas: List<*>,
        where: String,
    ) {
        var first: SchemaError? = null
        for (schema in schemas) {
            try {
                return check(value, schema as Object, where)
            } catch (error: SchemaError) {
                first = first ?: error
            }
        }
        throw first!!
    }

    /** Return what is wrong with [value] by one keyword, or null. */
    private fun apply(
        keyword: String,
        wanted: Any?,
        value: Any?,
        schema: Object,
        where: String,
    ): String? =
        when (keyword) {
            in NOTES -> null
            "discriminator" -> chosen(value, wanted as Object, where)
            "const" -> if (value == wanted) null else "must be ${shown(wanted)}"
            "enum" -> if (value in wanted as List<*>) null else "must be one of ${wanted.joinToString(", ")}"
            "pattern" -> if (matches(value as String, wanted as String)) null else "does not match $wanted"
            "format" -> formats.getValue(wanted as String)(value as String)?.let { fail(where, it) }
            "minimum" -> if (number(value) >= number(wanted)) null else "is less than ${shown(wanted)}"
            "maximum" -> if (number(value) <= number(wanted)) null else "is more than ${shown(wanted)}"
            "exclusiveMinimum" -> if (number(value) > number(wanted)) null else "is not more than ${shown(wanted)}"
            "maxLength" -> if (length(value as String) <= long(wanted)) null else "has more than $wanted characters"
            "minItems", "minProperties" -> if (size(value) >= long(wanted)) null else "has fewer than $wanted entries"
            "maxItems", "maxProperties" -> if (size(value) <= long(wanted)) null else "has more than $wanted entries"
            "required" -> (wanted as List<*>).firstOrNull { it !in value as Object }?.let { "lacks $it" }
            else -> applyInside(keyword, wanted, value, schema, where)
        }

    private fun applyInside(
        keyword: String,
        wanted: Any?,
        value: Any?,
        schema: Object,
        where: String,
    ): String? {
        when (keyword) {
            "items" -> items(value as List<*>, wanted as Object, (schema["prefixItems"] as List<*>?)?.size ?: 0, where)
            "prefixItems" ->
                (value as List<*>).zip(wanted as List<*>).forEachIndexed { index, (entry, each) ->
                    check(entry, each as Object, "$where.$index")
                }
            "properties" -> for ((name, each) in wanted as Object) {
                if (name in value as Object) check(value[name], each as Object, "$where.$name")
            }
            "propertyNames" -> for (name in (value as Object).keys) check(name, wanted as Object, where)
            "patternProperties" -> patterned(value as Object, wanted as Object, where)
            "additionalProperties" -> return others(value as Object, wanted, schema, where)
            else -> error("the schema has a keyword that is not known here: $keyword")
        }
        return null
    }

    /** Check one of several definitions, by a field of the value that names it. */
    private fun chosen(
        value: Any?,
        wanted: Object,
        where: String,
    ): String? {
        if (value !is Map<*, *>) return "is no object"
        val field = wanted["propertyName"] as String
        val mapping = wanted["mapping"] as Object
        val reference = mapping[value[field]] ?: return "has a $field that is not one of ${mapping.keys.joinToString(", ")}"
        check(value, definitions[(reference as String).substringAfterLast('/')] as Object, where)
        return null
    }

    private fun items(
        values: List<*>,
        schema: Object,
        skipped: Int,
        where: String,
    ) = values.forEachIndexed { index, entry -> if (index >= skipped) check(entry, schema, "$where.$index") }

    private fun patterned(
        value: Object,
        wanted: Object,
        where: String,
    ) {
        for ((name, entry) in value) {
            for ((pattern, schema) in wanted) {
                if (matches(name as String, pattern as String)) check(entry, schema as Object, "$where.$name")
            }
        }
    }

    private fun others(
        value: Object,
        wanted: Any?,
        schema: Object,
        where: String,
    ): String? {
        val known = (schema["properties"] as Object?)?.keys ?: emptySet<Any>()
        val patterns = (schema["patternProperties"] as Object?)?.keys ?: emptySet<Any>()
        for ((name, entry) in value) {
            if (name in known || patterns.any { matches(name as String, it as String) }) continue
            if (wanted == false) return "may not have ${shown(name)}"
            if (wanted is Map<*, *>) check(entry, wanted, "$where.$name")
        }
        return null
    }

    private fun matches(
        text: String,
        pattern: String,
    ): Boolean = patterns.getOrPut(pattern) { Pattern.compile(pattern) }.matcher(text).matches()

    private fun fail(
        where: String,
        what: String,
    ): Nothing = throw SchemaError((if (where.isEmpty()) "" else where.drop(1).take(200) + ": ") + what)
}

private val NOTES = setOf("\$ref", "anyOf", "oneOf", "type", "description", "default", "\$defs", "title")

private fun isOf(
    value: Any?,
    type: String,
): Boolean =
    when (type) {
        "array" -> value is List<*>
        "boolean" -> value is Boolean
        "integer" -> value is Long || value is BigInteger
        "null" -> value == null
        "number" -> value is Long || value is BigInteger || value is Double
        "object" -> value is Map<*, *>
        "string" -> value is String
        else -> error("the schema has a type that is not known here: $type")
    }

private fun number(value: Any?): Double = (value as Number).toDouble()

private fun long(value: Any?): Long = value as Long

private fun length(text: String): Int = text.codePointCount(0, text.length)

private fun size(value: Any?): Int = if (value is Map<*, *>) value.size else (value as List<*>).size

private fun shown(value: Any?): String =
    when (value) {
        is Map<*, *> -> "the object"
        is List<*> -> "the list"
        is String -> "'${value.take(80)}'"
        else -> value.toString().take(80)
    }
