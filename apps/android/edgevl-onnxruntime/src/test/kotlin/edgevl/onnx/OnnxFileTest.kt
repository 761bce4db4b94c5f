package edgevl.onnx

import org.junit.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

class OnnxFileTest {
    private fun elsewhere(vararg bytes: Int) = OnnxFile(ByteArray(bytes.size) { bytes[it].toByte() }).keepsWeightsElsewhere()

    /** A model (7: graph) with a tensor (5) that has external data (13), or raw ones (9). ONNX Runtime would look for the file. */
    @Test
    fun `weights in other files are noticed`() {
        assertEquals(true, elsewhere(0x3A, 4, 0x2A, 2, 0x6A, 0))
        assertEquals(false, elsewhere(0x3A, 4, 0x2A, 2, 0x4A, 0))
    }

    @Test
    fun `what is no message is refused`() {
        assertFailsWith<IllegalArgumentException> { elsewhere(0x3A, 5, 0x2A) }
        assertFailsWith<IllegalArgumentException> { elsewhere(0xFF) }
    }
}
