package edgevl.onnx

/** Does an ONNX file keep weights in other files? Read from its bytes alone, before ONNX Runtime opens what it names. */
internal class OnnxFile(
    private val data: ByteArray,
) {
    private class Message(
        val kind: String,
        val start: Int,
        val end: Int,
    )

    private val waiting = ArrayDeque(listOf(Message("model", 0, data.size)))
    private var at = 0

    /** Throws [IllegalArgumentException] where the bytes are no message of protobuf at all. */
    fun keepsWeightsElsewhere(): Boolean {
        while (true) {
            val message = waiting.removeLastOrNull() ?: return false
            at = message.start
            while (at < message.end) if (field(message)) return true
        }
    }

    /** Step over one field, noting what may lead to a tensor. Returns whether it says that data lie elsewhere. */
    private fun field(message: Message): Boolean {
        val tag = varint(message.end)
        val size =
            when ((tag and 7).toInt()) {
                0 -> 0L.also { varint(message.end) }
                1 -> 8L
                2 -> varint(message.end)
                5 -> 4L
                else -> throw IllegalArgumentException("a field of an unknown kind")
            }
        require(size >= 0 && size <= message.end - at) { "a field ends behind its message" }
        val inner = if ((tag and 7) == 2L) LEADS.getValue(message.kind)[tag shr 3] else null
        if (inner == "external") return true
        if (inner != null) waiting += Message(inner, at, at + size.toInt())
        at += size.toInt()
        return false
    }

    private fun varint(end: Int): Long {
        var value = 0L
        var shift = 0
        while (at < end && shift < 70) {
            val byte = data[at++].toInt()
            value = value or ((byte and 127).toLong() shl shift)
            shift += 7
            if (byte >= 0) return value
        }
        throw IllegalArgumentException("a number that does not end")
    }

    private companion object {
        /** Fields of onnx.proto that lead to a tensor: message -> number of the field -> message that it holds. */
        val LEADS =
            mapOf(
                "model" to mapOf(7L to "graph", 20L to "training", 25L to "function"),
                "training" to mapOf(1L to "graph", 2L to "graph"),
                "function" to mapOf(7L to "node", 11L to "attribute"),
                "graph" to mapOf(1L to "node", 5L to "tensor", 15L to "sparse"),
                "node" to mapOf(5L to "attribute"),
                "attribute" to mapOf(5L to "tensor", 6L to "graph", 10L to "tensor", 11L to "graph", 22L to "sparse", 23L to "sparse"),
                "sparse" to mapOf(1L to "tensor", 2L to "tensor"),
                "tensor" to mapOf(13L to "external"),
            )
    }
}
