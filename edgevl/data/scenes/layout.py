"""What is in a scene and where: categories, colors, sizes and places, drawn from one random generator."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgevl.data.scenes import artwork
from edgevl.data.scenes.names import CATEGORIES, COLORS, HELD_OUT, HELD_OUT_SET

SMALL = tuple(range(26, 35, 2))  # longest sides in pixels at 128 px; the gap to LARGE keeps the words unambiguous
LARGE = tuple(range(42, 57, 2))
MAX_LARGE = {2: 2, 3: 3, 4: 3, 5: 2, 6: 2}  # more would not fit
DUPLICATE, SAME_COLOR = 0.18, 0.45  # share of scenes with a repeated category; of objects that repeat a color
MIN_VISIBLE = (4, 5)  # every object keeps at least four fifths of its pixels


@dataclass(frozen=True)
class Item:
    """One object before it is painted. x, y: the top left corner of its sprite; both in pixels."""

    category_id: int
    color: str
    size: str
    side: int
    flip: bool
    x: int = 0
    y: int = 0


def pick(rng: random.Random, options: Sequence):
    return options[int(rng.random() * len(options))]


def shuffled(rng: random.Random, options: Sequence) -> list:
    """Written out, because `random.shuffle` promises nothing across Python versions."""
    result = list(options)
    for i in range(len(result) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        result[i], result[j] = result[j], result[i]
    return result


def sample_items(rng: random.Random, split: str, size: int, categories: Sequence[str] = CATEGORIES) -> list[Item]:
    """Two to six objects of some categories with their looks, without places."""
    pairs = sample_pairs(rng, split, 2 + int(rng.random() * 5), categories)
    sizes = ["large" if rng.random() < 0.5 else "small" for _ in pairs]
    for i in shuffled(rng, range(len(sizes))):
        if sizes.count("large") > MAX_LARGE[len(sizes)]:
            sizes[i] = "small"
    items = []
    for (category_id, color), word in zip(pairs, sizes, strict=True):
        side = (pick(rng, LARGE if word == "large" else SMALL) * size + 64) // 128
        items.append(Item(category_id, color, word, side, rng.random() < 0.5))
    return items


def sample_pairs(
    rng: random.Random, split: str, count: int, categories: Sequence[str] = CATEGORIES
) -> list[tuple[int, str]]:
    """`count` pairs (category id, color). Held-out pairs never appear, except in test_pairs, where one always does."""
    pairs: list[tuple[int, str]] = []
    if split == "test_pairs":
        category, color = pick(rng, [pair for pair in HELD_OUT if pair[0] in categories])
        pairs.append((CATEGORIES.index(category), color))
    duplicate = rng.random() < DUPLICATE
    while len(pairs) < count:
        known = [category_id for category_id, _ in pairs]
        if duplicate and len(pairs) == 1:
            category_id = known[0]
        else:
            category_id = CATEGORIES.index(pick(rng, categories))
            if category_id in known:
                continue
        colors = [c for c in COLORS if split == "test_pairs" or (CATEGORIES[category_id], c) not in HELD_OUT_SET]
        used = [color for _, color in pairs if color in colors]
        repeat = used and rng.random() < SAME_COLOR
        pairs.append((category_id, pick(rng, used if repeat else colors)))
    return shuffled(rng, pairs)


def place(rng: random.Random, items: list[Item], family: str, size: int) -> tuple[list[Item], np.ndarray]:
    """Find places with little overlap. Returns the placed items and owner int8 [size, size]: the index of the object
    seen at each pixel, -1 for background. When no place is found the last item is left out, down to two."""
    while True:
        for _ in range(12):
            placed = _try_places(rng, items, family, size)
            owner = _owners(placed, family, size) if placed else None
            if placed and owner is not None:
                return placed, owner
        if len(items) == 2:
            items = [Item(i.category_id, i.color, "small", (SMALL[0] * size + 64) // 128, i.flip) for i in items]
        else:
            items = _drop_one(items)


def _drop_one(items: list[Item]) -> list[Item]:
    """Without the last item; a held-out pair stays."""
    held = [(CATEGORIES[i.category_id], i.color) in HELD_OUT_SET for i in items]
    drop = len(items) - 1 if not held[-1] or sum(held) > 1 else 0
    return [item for i, item in enumerate(items) if i != drop]


def _try_places(rng: random.Random, items: list[Item], family: str, size: int) -> list[Item] | None:
    boxes: dict[int, tuple[int, int, int, int]] = {}
    for i in sorted(range(len(items)), key=lambda i: -items[i].side):
        height, width = artwork.sprite(family, items[i].category_id, items[i].side).alpha.shape
        for _ in range(24):
            x, y = int(rng.random() * (size - width + 1)), int(rng.random() * (size - height + 1))
            box = (x, y, x + width, y + height)
            if all(_overlap_is_small(box, other) for other in boxes.values()):
                boxes[i] = box
                break
        else:
            return None
    return [
        Item(item.category_id, item.color, item.size, item.side, item.flip, *boxes[i][:2])
        for i, item in enumerate(items)
    ]


def _overlap_is_small(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """At most an eighth of the smaller box."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return True
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return 8 * width * height <= smaller


def _owners(items: list[Item], family: str, size: int) -> np.ndarray | None:
    """The owner map, or None when an object is hidden too much."""
    owner = np.full((size, size), -1, dtype=np.int8)
    solids = []
    for i, item in enumerate(items):
        solid = artwork.sprite(family, item.category_id, item.side).solid
        solid = solid[:, ::-1] if item.flip else solid
        owner[item.y : item.y + solid.shape[0], item.x : item.x + solid.shape[1]][solid] = i
        solids.append(solid)
    visible = np.bincount(owner.ravel() + 1, minlength=len(items) + 1)[1:]
    share, whole = MIN_VISIBLE
    enough = all(visible[i] * whole >= np.count_nonzero(solid) * share for i, solid in enumerate(solids))
    return owner if enough else None
