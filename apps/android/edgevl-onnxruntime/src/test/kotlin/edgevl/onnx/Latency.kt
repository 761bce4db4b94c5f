package edgevl.onnx

import edgevl.Model
import edgevl.Query
import edgevl.bundle.Bundle
import edgevl.picture.YuvFrame
import edgevl.picture.YuvPlane
import edgevl.picture.readPng
import edgevl.picture.toPicture
import java.io.File
import java.nio.ByteBuffer

private const val WIDTH = 1920
private const val HEIGHT = 1080

/**
 * Time queries on this JVM, a block at a time: tools/jvm_latency.py interleaves the blocks with those of Python.
 *
 * Arguments: bundle, threads. Each line read is "SCOPE COUNT"; each line written the milliseconds of COUNT queries. Scopes:
 * `pipeline`, the first golden picture as PNG, and its texts, to the answer; `frame`, a 1080p frame (NV12) in memory.
 */
fun main(arguments: Array<String>) {
    val bundle = Bundle.open(File(arguments[0]))
    val png =
        bundle.read(
            bundle.manifest.files.keys
                .filter { it.startsWith("golden/") }
                .min(),
        )
    val text = bundle.exampleTexts.take(1)
    val frame = frame()
    Model.open(bundle, OnnxRuntime(arguments[1].toInt())).use { model ->
        val scopes =
            mapOf(
                "pipeline" to { model.answer(Query(listOf(readPng(png)), text)) },
                "frame" to { model.answer(Query(listOf(frame.toPicture()), text)) },
            )
        for (line in generateSequence(::readlnOrNull)) {
            val (scope, count) = line.split(' ')
            println(List(count.toInt()) { milliseconds(scopes.getValue(scope)) }.joinToString(" "))
        }
    }
}

private fun milliseconds(work: () -> Any): Double {
    val started = System.nanoTime()
    work()
    return (System.nanoTime() - started) / 1e6
}

/** A frame with edges and colors: NV12, whose chroma planes are views of the same bytes. */
private fun frame(): YuvFrame {
    val luma = ByteArray(WIDTH * HEIGHT) { (it % WIDTH * it / WIDTH / 7).toByte() }
    val chroma = ByteArray(WIDTH * HEIGHT / 2) { (it / 64).toByte() }
    val u = YuvPlane(ByteBuffer.wrap(chroma), WIDTH, 2)
    val v = YuvPlane(ByteBuffer.wrap(chroma, 1, chroma.size - 1).slice(), WIDTH, 2)
    return YuvFrame(WIDTH, HEIGHT, YuvPlane(ByteBuffer.wrap(luma), WIDTH, 1), u, v)
}
