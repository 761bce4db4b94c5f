"""Is a picture or a text like those of training? From docs/bundle.md alone. A domain is a parsed domain.json."""

import math
from typing import Any

from second_pictures import Rows
from second_texts import pieces, words


def halve(rows: Rows) -> Rows:
    return [
        [
            tuple(sum(rows[2 * y + i][2 * x + j][channel] for i in (0, 1) for j in (0, 1)) for channel in range(3))
            for x in range(len(rows[0]) // 2)
        ]
        for y in range(len(rows) // 2)
    ]


def steps(rows: Rows) -> list[int]:
    width, height = len(rows[0]), len(rows)
    right = [(rows[y][x], rows[y][x + 1]) for y in range(height) for x in range(width - 1)]
    down = [(rows[y][x], rows[y + 1][x]) for y in range(height - 1) for x in range(width)]
    return [max(abs(a - b) for a, b in zip(*pair)) for pair in right + down]


def shares(values: list[int], edges: list[int], factor: int) -> list[int]:
    reached = [sum(value >= edge * factor for edge in edges) for value in values]
    counts = [reached.count(k) for k in range(len(edges) + 1)]
    return [math.floor(255 * math.sqrt(count / len(values)) + 0.5) for count in counts]


def domain_numbers(pixels: Rows) -> list[int]:
    half = halve(pixels)
    flat = [pixel for row in half for pixel in row]
    return [
        *shares(steps(half), [1, 2, 5, 12, 30, 70], 4),
        *shares(steps(halve(half)), [1, 2, 5, 12, 30, 70], 16),
        *shares([sum(pixel) for pixel in flat], [32, 64, 96, 128, 160, 192, 224], 12),
        *shares([max(pixel) - min(pixel) for pixel in flat], [8, 24, 48, 96, 150], 4),
    ]


def domain_score(domain: dict[str, Any], pixels: Rows) -> float:
    own, found = domain_numbers(pixels), []
    for picture in domain["pictures"]:
        off = [(a - b) / spread for a, b, spread in zip(own, bytes.fromhex(picture), domain["spread"], strict=True)]
        found.append(math.sqrt(sum(value * value for value in off)))
    return sorted(found)[domain["neighbors"] - 1] / domain["picture_limit"]


def domain_confidence(domain: dict[str, Any], scores: list[float]) -> float:
    scaled = [math.exp((value - max(scores)) / domain["temperature"]) for value in scores]
    return max(scaled) / sum(scaled)


def strange_words(domain: dict[str, Any], text: str, vocabulary: dict[str, int]) -> list[str]:
    found = []
    for word in words(text):
        own = pieces(word, vocabulary)
        letter = len(word) == 1 and word in "abcdefghijklmnopqrstuvwxyz0123456789"
        if len(own) > 1 or own == [vocabulary["[UNK]"]] or (letter and word not in domain["characters"]):
            found.append(word)
    return found
