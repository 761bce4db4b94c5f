"""A scene: image, objects and everything that can truthfully be said about it.

S: side of the image in pixels; C: cells a side of a grid.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np

from edgevl.contracts import Record
from edgevl.data.lazy import Lazy
from edgevl.data.scenes import artwork, backgrounds
from edgevl.data.scenes.captions import Referring, Statement, draw_captions, draw_referring, draw_statements
from edgevl.data.scenes.facts import View
from edgevl.data.scenes.layout import Item, place, sample_items
from edgevl.data.scenes.names import ANSWERS, CATEGORIES, COLORS, FAMILY_OF_SPLIT, GROUP_OF, SIZES, SPLITS
from edgevl.data.scenes.questions import Question, draw_questions
from edgevl.data.scenes.vocabulary import VOCABULARY
from edgevl.errors import InputError, unknown_name

MIN_SIZE = 32


@dataclass(frozen=True)
class SceneObject:
    """One object. box: x0, y0, x1, y1 of the whole sprite, float pixels, half-open. mask: bool [S, S], the visible
    part. size: "small" or "large"."""

    category: str
    category_id: int
    group: str
    color: str
    color_id: int
    size: str
    box: tuple[float, float, float, float]
    mask: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Phrase:
    """A phrase that fits one object. box: x0, y0, x1, y1 of the object as shares of the picture's side."""

    text: str
    box: tuple[float, ...]


class SceneQuestions(Lazy[Question]):
    """The questions of a scene, in the order in which they are drawn."""

    def __init__(self, scene: "Scene"):
        super().__init__(scene.draw_questions)
        self._scene = scene

    def of_kinds(self, kinds: Sequence[str]) -> Lazy[Question]:
        """Return those that are drawn when nothing but these kinds is asked. Raises `InputError` for an unknown one."""
        return Lazy(lambda: self._scene.draw_questions(kinds))


@dataclass
class Scene:
    """image: uint8 [S, S, 3] RGB. owner: int8 [S, S], index of the object seen at each pixel, -1 for background.

    The texts are methods. Each draws from its own generator, made from (split, seed, index, purpose), so that asking
    for one never changes another.
    """

    split: str
    seed: int
    index: int
    image: np.ndarray = field(repr=False)
    objects: tuple[SceneObject, ...]
    owner: np.ndarray = field(repr=False)
    categories: tuple[str, ...] = field(default=CATEGORIES, repr=False)  # of the data set

    @cached_property
    def class_map(self) -> np.ndarray:
        """uint8 [S, S]: category_id + 1, 0 for background."""
        table = np.array([0] + [o.category_id + 1 for o in self.objects], dtype=np.uint8)
        return table[self.owner + 1]

    @cached_property
    def view(self) -> View:
        return View(self.objects, self.image.shape[0], self.split, self.categories)

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self.split}/{self.seed}/{self.index}/{purpose}")

    def questions(self, n: int = 4, kinds: Sequence[str] | None = None) -> list[Question]:
        """Up to `n` different questions; `kinds` limits them to some of QUESTION_KINDS (else InputError)."""
        return list(islice(self.draw_questions(kinds), n))

    def draw_questions(self, kinds: Sequence[str] | None = None) -> Iterator[Question]:
        return draw_questions(self.view, self._rng("questions"), kinds)

    def captions(self, n: int = 2) -> list[str]:
        """Up to `n` different sentences that are true of the scene."""
        return [true for true, _ in self.caption_pairs(n)]

    def caption_pairs(self, n: int = 2) -> list[tuple[str, str]]:
        """Up to `n` pairs of a true sentence and the same with one fact changed so that it is false."""
        return list(islice(self.draw_captions(), n))

    def draw_captions(self) -> Iterator[tuple[str, str]]:
        return draw_captions(self.view, self._rng("captions"))

    def negative_caption(self, n: int = 2) -> list[str]:
        """captions(n), each with one fact changed so that it is false of the scene; the i-th belongs to the i-th."""
        return [false for _, false in self.caption_pairs(n)]

    def statements(self, n: int = 4) -> list[Statement]:
        """Up to `n` different sentences with their truth, half of them false."""
        return list(islice(self.draw_statements(), n))

    def draw_statements(self) -> Iterator[Statement]:
        return draw_statements(self.view, self._rng("statements"))

    def referring(self, n: int = 2) -> list[Referring]:
        """Up to `n` phrases that each fit exactly one object."""
        return list(islice(self.draw_referring(), n))

    def draw_referring(self) -> Iterator[Referring]:
        return draw_referring(self.view, self._rng("referring"))

    def record(self) -> Record:
        """Return it as any data set gives what it knows. Texts are drawn when they are read, and only as many."""
        side = self.image.shape[0]
        boxes = [tuple(edge / side for edge in item.box) for item in self.objects]
        return Record(
            key=f"{self.split}/{self.seed}/{self.index}",
            pictures=(self.image,),
            questions=SceneQuestions(self),
            captions=Lazy(lambda: (true for true, _ in self.draw_captions())),
            statements=Lazy(self.draw_statements),
            phrases=Lazy(lambda: (Phrase(each.phrase, boxes[each.object_index]) for each in self.draw_referring())),
            objects=self.objects,
        )

    def grid(self, cells: int) -> dict[str, np.ndarray]:
        """What each cell of a cells x cells grid shows: class_ids (category_id + 1), color_ids (color_id + 1),
        size_ids (1 small, 2 large), all uint8 [C, C] with 0 for background, and objects int8 [C, C] (-1 background).

        A cell belongs to the object that covers most of it, if the objects cover at least a quarter of the cell.
        """
        size = self.owner.shape[0]
        if not 1 <= cells <= size:
            raise InputError(f"a grid of {cells} cells: allowed are 1 to {size}, the side of the image in pixels")
        index = _majority(self.owner, len(self.objects), cells)
        tables = {
            "class_ids": [o.category_id + 1 for o in self.objects],
            "color_ids": [o.color_id + 1 for o in self.objects],
            "size_ids": [SIZES.index(o.size) + 1 for o in self.objects],
        }
        maps = {name: np.array([0, *ids], dtype=np.uint8)[index + 1] for name, ids in tables.items()}
        return maps | {"objects": index}


def _majority(owner: np.ndarray, count: int, cells: int) -> np.ndarray:
    size = owner.shape[0]
    if not count:  # a detector may find nothing
        return np.full((cells, cells), -1, np.int8)
    edges = np.array([i * size // cells for i in range(cells)])
    shown = (owner[None] == np.arange(count, dtype=np.int8)[:, None, None]).astype(np.int32)  # [N, S, S]
    if size % cells == 0:
        shown = shown.reshape(count, cells, size // cells, size).sum(2)
        pixels = shown.reshape(count, cells, cells, size // cells).sum(3)
    else:
        pixels = np.add.reduceat(np.add.reduceat(shown, edges, axis=1), edges, axis=2)
    sides = np.diff(np.append(edges, size))
    covered = 4 * pixels.sum(0) >= np.outer(sides, sides)
    return np.where(covered, pixels.argmax(0), -1).astype(np.int8)


class Scenes(Sequence[Record]):
    """The endless data set of one split: `Scenes("train")[7]`. (split, seed, index, size) decides every byte.

    `scenes[7]` is what any data set knows of a picture, `scenes.scene(7)` the scene itself, with maps and masks.

    split: one of SPLITS (else InputError). size: side of the images in pixels, 32 or more. categories: those that
    are drawn and named, of CATEGORIES; a choice of them is another data set, with a name of its own.
    """

    about = "Scenes: emoji pictures"
    finite = False
    # A head that has answered questions goes on with statements: "yes" and "no" are among its answers.
    labels: Mapping[str, Sequence[str]] = {"vqa": ANSWERS, "statement": ANSWERS}

    def __init__(
        self,
        split: str = "train",
        seed: int = 0,
        size: int = 128,
        categories: tuple[str, ...] = CATEGORIES,
        name: str = "scenes",
    ):
        if split not in SPLITS:
            raise unknown_name("split of Scenes", split, SPLITS)
        if size < MIN_SIZE:
            raise InputError(f"Scenes of {size} pixels: the smallest side is {MIN_SIZE}")
        self.split, self.seed, self.size, self.categories = split, seed, size, categories
        self.name = f"{name}:{split}"
        self.family = FAMILY_OF_SPLIT[split]

    def __repr__(self) -> str:
        return f"Scenes(split={self.split!r}, seed={self.seed}, size={self.size})"

    def __len__(self) -> int:
        return 2**31 - 1

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]
        return self.scene(index).record()

    def texts(self) -> Iterator[str]:
        """Yield every word that a text of Scenes can contain."""
        return iter(VOCABULARY)

    def scene(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index}: allowed are 0 to {len(self) - 1}")
        rng = random.Random(f"{self.split}/{self.seed}/{index}")
        items, owner = place(rng, sample_items(rng, self.split, self.size, self.categories), self.family, self.size)
        image = backgrounds.paint(rng, self.size)
        objects = []
        for i, item in enumerate(items):
            shape = artwork.sprite(self.family, item.category_id, item.side)
            artwork.paste(image, shape, item.color, item.x, item.y, item.flip)
            objects.append(_scene_object(item, shape.alpha.shape, owner == i))
        return Scene(self.split, self.seed, index, image, tuple(objects), owner, self.categories)


def _scene_object(item: Item, shape: tuple[int, ...], mask: np.ndarray) -> SceneObject:
    category = CATEGORIES[item.category_id]
    box = (float(item.x), float(item.y), float(item.x + shape[1]), float(item.y + shape[0]))
    color_id = COLORS.index(item.color)
    return SceneObject(category, item.category_id, GROUP_OF[category], item.color, color_id, item.size, box, mask)
