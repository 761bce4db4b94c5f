package edgevl

import edgevl.picture.orientationOf
import org.junit.Test
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.random.Random
import kotlin.test.assertEquals

class ExifTest {
    private val start = "Exif\u0000\u0000".toByteArray(Charsets.ISO_8859_1)

    private fun block(
        value: Int,
        order: ByteOrder = ByteOrder.LITTLE_ENDIAN,
        kind: Int = 3,
        tag: Int = 0x0112,
    ): ByteArray {
        val bytes = ByteBuffer.allocate(38).order(order)
        bytes
            .put((if (order == ByteOrder.LITTLE_ENDIAN) "II" else "MM").toByteArray())
            .putShort(42)
            .putInt(8)
            .putShort(2)
        bytes
            .putShort(0x010F)
            .putShort(2)
            .putInt(1)
            .putInt(0)
        bytes.putShort(tag.toShort()).putShort(kind.toShort()).putInt(1)
        if (kind == 4) {
            bytes.putInt(value)
        } else if (kind == 3) {
            bytes.putShort(value.toShort())
        } else {
            bytes.put(value.toByte())
        }
        return bytes.array()
    }

    private fun jpeg(vararg segments: Pair<Int, ByteArray>): ByteArray {
        var file = byteArrayOf(-1, 0xD8.toByte())
        for ((marker, content) in segments) {
            file += byteArrayOf(-1, marker.toByte(), (content.size + 2 shr 8).toByte(), (content.size + 2).toByte()) + content
        }
        return file + byteArrayOf(-1, 0xDA.toByte(), 0, 2)
    }

    @Test
    fun `of a JPEG`() {
        for (order in listOf(ByteOrder.LITTLE_ENDIAN, ByteOrder.BIG_ENDIAN)) {
            for (kind in listOf(1, 3, 4)) assertEquals(6, orientationOf(jpeg(0xE0 to ByteArray(9), 0xE1 to start + block(6, order, kind))))
        }
        assertEquals(1, orientationOf(jpeg(0xE1 to start + block(9))))
        assertEquals(1, orientationOf(jpeg(0xE1 to start + block(6, tag = 0x0113))))
        assertEquals(1, orientationOf(jpeg(0xE1 to "http://ns.adobe.com/xap/1.0/ tiff:Orientation=6".toByteArray())), "XMP turns nothing")
        assertEquals(3, orientationOf(jpeg(0xE1 to start + block(3), 0xE1 to start + block(6))), "the first block counts")
    }

    @Test
    fun `of a PNG and a WebP`() {
        val signature = "\u0089PNG\r\n\u001a\n".toByteArray(Charsets.ISO_8859_1)
        assertEquals(8, orientationOf(signature + chunk("IHDR", ByteArray(13)) + chunk("eXIf", block(8))))
        val digits = block(5).joinToString("") { "%02x".format(it) }
        assertEquals(5, orientationOf(signature + chunk("tEXt", "Raw profile type exif\u0000\nexif\n 38\n$digits\n".toByteArray())))
        val chunks = "WEBPVP8X".toByteArray() + little(10) + ByteArray(10) + "EXIF".toByteArray() + little(38) + block(7)
        assertEquals(7, orientationOf("RIFF".toByteArray() + little(chunks.size) + chunks))
    }

    @Test
    fun `nothing in a file can fail`() {
        val random = Random(1)
        val good = jpeg(0xE1 to start + block(6))
        repeat(2000) {
            val bytes = good.copyOf(random.nextInt(good.size))
            if (bytes.isNotEmpty()) bytes[random.nextInt(bytes.size)] = random.nextInt().toByte()
            orientationOf(bytes)
        }
    }

    private fun little(value: Int) =
        ByteBuffer
            .allocate(4)
            .order(ByteOrder.LITTLE_ENDIAN)
            .putInt(value)
            .array()

    private fun chunk(
        kind: String,
        content: ByteArray,
    ) = ByteBuffer.allocate(4).putInt(content.size).array() + kind.toByteArray() + content + ByteArray(4)
}
