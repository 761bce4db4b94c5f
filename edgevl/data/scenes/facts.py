"""What is true of a scene: descriptions that objects fit, and relations with a margin: no answer is a toss-up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgevl.data.scenes.names import CATEGORIES, GROUP_OF, HELD_OUT_SET, group_plural, group_singular, plural

MARGIN = 10  # pixels at 128 px by which two centers differ when we say left of, right of, above or below
# relation -> (axis of the center: 0 = x, 1 = y; sign of the difference)
RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


class ObjectLike(Protocol):
    """What the texts need to know of an object."""

    @property
    def category(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def color(self) -> str: ...
    @property
    def size(self) -> str: ...
    @property
    def box(self) -> tuple[float, float, float, float]: ...


@dataclass(frozen=True)
class Spec:
    """A description: `Spec(color="red", category="cat")` is "red cat"; without category or group, "red object"."""

    category: str = ""
    color: str = ""
    size: str = ""
    group: str = ""

    def fits(self, item: ObjectLike) -> bool:
        return (
            self.category in ("", item.category)
            and self.color in ("", item.color)
            and self.size in ("", item.size)
            and self.group in ("", item.group)
        )

    @property
    def one(self) -> str:
        """Singular, without an article: `large red cat`."""
        return self._words(self.category or (group_singular(self.group) if self.group else "object"))

    @property
    def many(self) -> str:
        """Plural: `red cats`."""
        return self._words(plural(self.category or "object") if not self.group else group_plural(self.group))

    def _words(self, noun: str) -> str:
        return " ".join(word for word in (self.size, self.color, noun) if word)


class View:
    """The objects of one scene, with what the texts ask again and again computed once.

    size: side of the image in pixels. split decides whether held-out pairs may be named. known: the categories of the
    data set: what is said to be absent is one of them too, else its absence could be told without the picture.
    """

    def __init__(self, objects: Sequence[ObjectLike], size: int, split: str, known: tuple[str, ...] = CATEGORIES):
        self.objects = objects
        self.known = known
        self.known_groups = tuple(dict.fromkeys(GROUP_OF[category] for category in known))
        self.allows_held_out = split == "test_pairs"
        self.margin = MARGIN * size / 128
        self.centers = [((o.box[0] + o.box[2]) / 2, (o.box[1] + o.box[3]) / 2) for o in objects]
        self.sides = [max(o.box[2] - o.box[0], o.box[3] - o.box[1]) for o in objects]
        self.categories = Counter(o.category for o in objects)
        self.colors = Counter(o.color for o in objects)
        self.groups = Counter(o.group for o in objects)
        self.pairs = Counter((o.category, o.color) for o in objects)
        self.held_out = [(o.category, o.color) in HELD_OUT_SET for o in objects]

    def count(self, spec: Spec) -> int:
        return sum(spec.fits(o) for o in self.objects)

    def may_name(self, spec: Spec) -> bool:
        """False for a held-out pair outside of test_pairs: training must not even read its name."""
        return self.allows_held_out or (spec.category, spec.color) not in HELD_OUT_SET

    def offset(self, i: int, relation: str, j: int) -> float:
        """How far, in pixels, the center of object i lies on that side of the center of object j."""
        axis, sign = RELATIONS[relation]
        return sign * (self.centers[i][axis] - self.centers[j][axis])

    def is_clear(self, i: int, relation: str, j: int) -> bool:
        return self.offset(i, relation, j) >= self.margin

    def only(self, relation: str, j: int) -> int | None:
        """The one object on that side of object j; None when there is none, several, or a doubtful one."""
        found = None
        for i in range(len(self.objects)):
            if i == j:
                continue
            offset = self.offset(i, relation, j)
            if offset > -self.margin:
                if offset < self.margin or found is not None:
                    return None
                found = i
        return found

    def extreme(self, word: str) -> int | None:
        """The object that is clearly the `largest` or `smallest`, by longest side and by area of its box."""
        sign = 1 if word == "largest" else -1
        order = sorted(range(len(self.objects)), key=lambda i: -sign * self.sides[i])
        best, second = order[:2]
        if sign * (self.sides[best] - self.sides[second]) < 0.8 * self.margin:
            return None
        areas = [(o.box[2] - o.box[0]) * (o.box[3] - o.box[1]) * sign for o in self.objects]
        return best if all(areas[best] > area for i, area in enumerate(areas) if i != best) else None
