package edgevl.run

import edgevl.bundle.DType
import org.junit.Test
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.test.assertEquals
import kotlin.test.assertSame

class TensorTest {
    private fun tensor(
        shape: List<Int>,
        vararg numbers: Float,
    ): Tensor {
        val data = ByteBuffer.allocateDirect(4 * numbers.size).order(ByteOrder.nativeOrder())
        numbers.forEach(data::putFloat)
        return Tensor(DType.FLOAT32, shape, data.rewind())
    }

    private fun numbers(tensor: Tensor) = List(tensor.data.capacity() / 4) { tensor.data.getFloat(4 * it) }

    /** Bundles of one exporter have one batch for all programs; docs/bundle.md allows another for each. */
    @Test
    fun `a value goes into a program of another batch`() {
        val value = tensor(listOf(2, 3), 1f, 2f, 3f, 9f, 9f, 9f)
        assertEquals(listOf(1f, 2f, 3f), numbers(value.fitted(listOf(1, 3))))
        assertEquals(List(3) { listOf(1f, 2f, 3f) }.flatten(), numbers(value.fitted(listOf(3, 3))))
        assertSame(value, value.fitted(listOf(2, 3)))
    }

    @Test
    fun `of equal scores the first is the best`() = assertEquals(1, indexOfLargest(floatArrayOf(0f, 2f, 2f, 1f)))

    @Test
    fun `numbers of 16 bits`() {
        val known = mapOf(0x3C00 to 1f, 0xC000 to -2f, 0x7BFF to 65504f, 0x400 to 6.1035156e-5f, 1 to 5.9604645e-8f)
        for ((bits, number) in known) assertEquals(number, halfToFloat(bits.toShort()))
    }
}
