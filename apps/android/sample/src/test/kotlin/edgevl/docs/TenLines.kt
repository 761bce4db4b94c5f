package edgevl.docs

import android.app.Activity
import android.net.Uri
import android.os.Bundle
import android.widget.TextView
import edgevl.Answer
import edgevl.Hit
import edgevl.Model
import edgevl.PictureIndex
import edgevl.android.Pictures
import edgevl.android.ofAssets
import edgevl.android.toPicture
import edgevl.onnx.OnnxRuntime
import edgevl.picture.Picture
import edgevl.picture.readPng
import edgevl.replayGolden
import java.io.File
import kotlin.concurrent.thread

// The code of docs/android.md, compiled. DocumentTest holds the page against this file.

class MainActivity : Activity() {
    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        val words = TextView(this).also(::setContentView)
        thread {
            val model = Model.open(edgevl.bundle.Bundle.ofAssets(this, "model.edgevl"), OnnxRuntime())
            val picture = Pictures.read(assets.open("photo.jpg"))
            val answer = model.ask(picture, "what color is the car?")
            runOnUiThread { words.text = "${answer.text}, ${answer.millis.toInt()} ms" }
        }
    }
}

fun onTheJvm(
    bundle: File,
    photo: File,
): String {
    val model = Model.open(edgevl.bundle.Bundle.open(bundle), OnnxRuntime(threads = 2))
    val answer = model.ask(readPng(photo.readBytes()), "what color is the car?")
    return model.use { answer.text }
}

fun several(
    model: Model,
    picture: Picture,
    questions: List<String>,
): List<String> {
    val look = model.look(picture) // the picture is encoded here
    return questions.map { look.ask(it).text } // and not again
}

fun search(
    model: Model,
    activity: Activity,
    photos: List<Uri>,
): List<Hit<Uri>> {
    val index = PictureIndex<Uri>(model)
    for (photo in photos) index.add(photo, Pictures.read(activity.contentResolver, photo))
    return index.search("a red car", count = 20)
}

fun frame(
    model: Model,
    image: android.media.Image,
    turn: Int,
): Answer {
    val picture = image.use { it.toPicture(turn) }
    return model.ask(picture, "what color is the car?")
}

fun selfTest(model: Model): Int {
    val cases = model.replayGolden() // throws, naming the case that fails
    return cases
}
