package edgevl.text

import java.util.PriorityQueue

/**
 * The symbols of one word, merged by rank. A queue holds the pairs that may be joined: a word of 10 000 letters would
 * take minutes if all pairs were looked through after each merge.
 */
internal class Symbols(
    bytes: List<String>,
    private val ranks: Map<Pair<String, String>, Int>,
) {
    private val parts = bytes.toTypedArray<String?>().also { it[it.size - 1] = it.last() + "</w>" }
    private val next = IntArray(parts.size) { it + 1 }
    private val before = IntArray(parts.size) { it - 1 }
    private val waiting = PriorityQueue(compareBy<Candidate>({ it.rank }, { it.at }))

    private class Candidate(
        val rank: Int,
        val at: Int,
        val left: String,
        val right: String,
    )

    fun merged(): List<String> {
        for (at in parts.indices) note(at)
        while (true) {
            val candidate = waiting.poll() ?: break
            val follower = next[candidate.at]
            val stands = parts[candidate.at] == candidate.left && follower < parts.size && parts[follower] == candidate.right
            if (stands) join(candidate.at, follower)
        }
        return parts.filterNotNull()
    }

    private fun join(
        at: Int,
        follower: Int,
    ) {
        parts[at] += parts[follower]!!
        parts[follower] = null
        next[at] = next[follower]
        if (next[at] < parts.size) before[next[at]] = at
        if (before[at] >= 0) note(before[at])
        note(at)
    }

    /** Put the pair that begins here into the queue, if it is among the merges. */
    private fun note(at: Int) {
        val left = parts[at] ?: return
        val right = parts.getOrNull(next[at]) ?: return
        ranks[left to right]?.let { waiting += Candidate(it, at, left, right) }
    }
}
