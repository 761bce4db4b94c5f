package edgevl.text

import java.util.BitSet

/** The sets of code points of docs/bundle.md. They do not move with the version of Unicode that a platform has. */
internal object CodePoints {
    private val sets: Map<String, BitSet> = read()
    val removed = sets.getValue("removed")
    val blank = sets.getValue("blank")
    val cjk = sets.getValue("cjk")
    val marks = sets.getValue("marks")
    val punctuation = sets.getValue("punctuation")
    val letters = sets.getValue("letters")
    val numbers = sets.getValue("numbers")
    val whiteSpace = sets.getValue("white space")

    private fun read(): Map<String, BitSet> {
        val stream = CodePoints::class.java.getResourceAsStream("/edgevl/code-points.txt")!!
        val found = HashMap<String, BitSet>()
        var current = BitSet()
        stream.bufferedReader().forEachLine { line ->
            when {
                line.startsWith("#") -> {}
                line.startsWith("= ") -> current = found.getOrPut(line.drop(2)) { BitSet() }
                else -> line.split(' ').forEach { add(current, it) }
            }
        }
        return found
    }

    private fun add(
        set: BitSet,
        range: String,
    ) {
        val ends = range.split('-').map { it.toInt(16) }
        set.set(ends.first(), ends.last() + 1)
    }
}
