package edgevl

import edgevl.bundle.Bundle
import edgevl.bundle.refuse
import edgevl.decoding.Classify
import edgevl.decoding.Rank
import edgevl.decoding.normalized
import edgevl.picture.Picture
import edgevl.run.Call
import edgevl.run.Evaluation
import edgevl.run.Outputs
import edgevl.run.Runtime
import edgevl.run.Session
import edgevl.run.Values
import java.util.concurrent.locks.ReentrantReadWriteLock
import kotlin.concurrent.read
import kotlin.concurrent.write

/** Pictures and texts, in order. How many a model reads, its bundle says. */
class Query(
    val pictures: List<Picture>,
    val texts: List<String> = emptyList(),
)

/** One of the labels that a model chooses from, and its share of the scores, 0 to 1. */
data class Choice(
    val label: String,
    val share: Double,
)

/**
 * What a bundle says of a query.
 *
 * [result]: labels, numbers of texts, token ids, or boxes (left, top, right, bottom as shares of the square that the model
 * sees), by the bundle's decoding. [words]: the same in words. [margins]: how far each decision was from another one.
 * [values]: the numbers behind it. [shares]: of each row of scores, after the activation; null where nothing is chosen.
 * [runs]: how often each program ran. [millis]: how long it took.
 */
class Answer internal constructor(
    val result: List<Any>,
    val words: List<String>,
    val margins: List<Double>,
    val values: Values,
    val shares: List<DoubleArray>?,
    val runs: Map<String, Int>,
    val millis: Double,
    private val labels: List<String>,
) {
    /** The first decision in words: the answer to one question, a caption, the best text. */
    val text: String get() = words.firstOrNull() ?: ""

    /** Return the best choices of the first decision, largest share first. */
    fun choices(count: Int = 5): List<Choice> {
        val row = shares?.firstOrNull() ?: return emptyList()
        return row.indices
            .sortedByDescending { row[it] }
            .take(count)
            .map { Choice(labels[it], row[it]) }
    }
}

/**
 * A bundle, opened: it answers queries. Safe to call from several threads; [close] waits for those that are running.
 *
 * What is refused throws [BundleRefused], what cannot be asked [BadInput].
 */
class Model private constructor(
    val bundle: Bundle,
    val runtime: Runtime,
    private val sessions: Map<String, Session>,
) : AutoCloseable {
    private val lock = ReentrantReadWriteLock()
    private var isClosed = false

    /** Answer one question about one picture. */
    fun ask(
        picture: Picture,
        text: String,
    ): Answer = answer(Query(listOf(picture), listOf(text)))

    /** Answer a query. */
    fun answer(query: Query): Answer = answer(query, null, emptyMap())

    /** Answer a query; a sequence follows the tokens [along] at every step, whatever is best here. */
    fun answerAlong(
        query: Query,
        along: List<Int>,
    ): Answer = answer(query, along, emptyMap())

    /** Encode pictures once, to ask much about them: with a bundle of the layout `split` each question is quick then. */
    fun look(vararg pictures: Picture): Look {
        val plan = bundle.decoding.plan(pictures.size, 1)
        val found = opened { Evaluation(bundle, sessions, pictures.asList(), emptyList()).ofPictures(plan) }
        return Look(this, pictures.asList(), found)
    }

    /** Return the embedding of a picture, of length 1. The bundle's decoding must be `rank`. */
    fun embed(picture: Picture): FloatArray = rows(Query(listOf(picture)), rank().picture)

    /** Return the embedding of a text, of length 1. The bundle's decoding must be `rank`. */
    fun embed(text: String): FloatArray = rows(Query(emptyList(), listOf(text)), rank().text)

    /** Return the embedding of a label: the mean over the bundle's prompts, of length 1. */
    fun embedLabel(label: String): FloatArray {
        val rows = rank().textsOf(label).map(::embed)
        return normalized(DoubleArray(rows[0].size) { at -> rows.sumOf { it[at].toDouble() } / rows.size })
    }

    private fun rank(): Rank =
        bundle.decoding as? Rank ?: throw BadInput("a bundle that can ${bundle.decoding.kind} has no embeddings: export one for retrieval")

    private fun rows(
        query: Query,
        output: String,
    ): FloatArray = answer(query).values.getValue(output)[0]

    internal fun answer(
        query: Query,
        along: List<Int>?,
        memory: Map<Call, Outputs>,
    ): Answer {
        val started = System.nanoTime()
        val decoding = bundle.decoding
        val plan = decoding.plan(query.pictures.size, query.texts.size)
        val evaluation = Evaluation(bundle, sessions, query.pictures, query.texts, memory)
        val values = opened { evaluation.values(plan, along) }
        val decisions = decoding.decide(values)
        val words = decoding.words(decisions.result, query.texts)
        val labels = (decoding as? Classify)?.labels ?: query.texts
        val millis = (System.nanoTime() - started) / 1e6
        return Answer(decisions.result, words, decisions.margins, values, decoding.shares(values), evaluation.runs, millis, labels)
    }

    private fun <T> opened(use: () -> T): T =
        lock.read {
            check(!isClosed) { "the model is closed" }
            use()
        }

    override fun close() =
        lock.write {
            if (!isClosed) sessions.values.forEach(Session::close)
            isClosed = true
        }

    companion object {
        /** Open every program of a bundle. Throws [BundleRefused]. */
        fun open(
            bundle: Bundle,
            runtime: Runtime,
        ): Model {
            if (bundle.manifest.target != runtime.target) {
                refuse(
                    "the bundle is for ${bundle.manifest.target}, and ${runtime.name} runs ${runtime.target}: export with --target ${runtime.target}",
                )
            }
            val sessions = LinkedHashMap<String, Session>()
            try {
                for (program in bundle.manifest.programs) sessions[program.name] = runtime.open(bundle, program)
            } catch (error: BundleRefused) {
                sessions.values.forEach(Session::close)
                throw error
            }
            return Model(bundle, runtime, sessions)
        }
    }
}

/** Pictures that were looked at: what belongs to them alone is computed. Safe to ask from several threads. */
class Look internal constructor(
    private val model: Model,
    private val pictures: List<Picture>,
    private val memory: Map<Call, Outputs>,
) {
    fun ask(text: String): Answer = model.answer(Query(pictures, listOf(text)), null, memory)
}
