package edgevl.run

import edgevl.bundle.DType
import edgevl.bundle.TensorSpec
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Numbers of one type in native byte order, rows first. [data] is direct and is read from position 0. */
class Tensor(
    val dtype: DType,
    val shape: List<Int>,
    val data: ByteBuffer,
) {
    /** How many numbers one sample has. */
    internal val rowSize get() = shape.drop(1).fold(1) { product, side -> product * side }

    /** Return the first sample as numbers. */
    internal fun firstRow(): FloatArray =
        FloatArray(rowSize) {
            when (dtype) {
                DType.FLOAT32 -> data.getFloat(4 * it)
                DType.FLOAT16 -> halfToFloat(data.getShort(2 * it))
                else -> error("${dtype.word} is no floating point")
            }
        }

    internal companion object {
        fun empty(
            dtype: DType,
            shape: List<Int>,
        ): Tensor {
            val count = shape.fold(1L) { product, side -> product * side }
            require(count * dtype.bytes <= Int.MAX_VALUE) { "a tensor of $shape is too large" }
            return Tensor(dtype, shape, ByteBuffer.allocateDirect((count * dtype.bytes).toInt()).order(ByteOrder.nativeOrder()))
        }

        /** Fill each sample of a program's input with the same whole numbers. */
        fun of(
            spec: TensorSpec,
            row: IntArray,
        ): Tensor {
            val tensor = empty(spec.dtype, spec.shape)
            repeat(spec.shape[0]) { for (value in row) tensor.put(value) }
            tensor.data.rewind()
            return tensor
        }

        /** Fill each sample of a program's input with the same pixels, uint8 [S, S, 3], in the layout that it takes. */
        fun of(
            spec: TensorSpec,
            pixels: ByteArray,
        ): Tensor {
            val tensor = empty(spec.dtype, spec.shape)
            repeat(spec.shape[0]) { if (spec.isImage) putPlanes(tensor.data, pixels) else tensor.data.put(pixels) }
            tensor.data.rewind()
            return tensor
        }

        private fun putPlanes(
            data: ByteBuffer,
            pixels: ByteArray,
        ) {
            for (channel in 0 until 3) {
                for (at in channel until pixels.size step 3) data.putFloat((pixels[at].toInt() and 255).toFloat())
            }
        }
    }

    /** Return this value as another program takes it: as it is, or its first sample repeated for another batch. */
    internal fun fitted(wanted: List<Int>): Tensor {
        if (shape == wanted) return this
        val row = ByteArray(data.capacity() / shape[0])
        data.duplicate().get(row)
        val tensor = empty(dtype, wanted)
        repeat(wanted[0]) { tensor.data.put(row) }
        tensor.data.rewind()
        return tensor
    }

    private fun put(value: Int) {
        when (dtype) {
            DType.INT64 -> data.putLong(value.toLong())
            DType.INT32 -> data.putInt(value)
            else -> error("${dtype.word} takes no token ids")
        }
    }
}

private const val HALF_EXPONENT = 0x1F
private const val HALF_FRACTION = 0x3FF

internal fun halfToFloat(bits: Short): Float {
    val sign = if (bits < 0) -1f else 1f
    val exponent = bits.toInt() shr 10 and HALF_EXPONENT
    val fraction = bits.toInt() and HALF_FRACTION
    return sign *
        when (exponent) {
            0 -> fraction / 16_777_216f
            HALF_EXPONENT -> if (fraction == 0) Float.POSITIVE_INFINITY else Float.NaN
            else -> Math.scalb(1 + fraction / 1024f, exponent - 15)
        }
}
