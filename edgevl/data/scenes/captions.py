"""Sentences about a scene: captions, captions made false by one changed fact, statements and referring expressions.

A sentence is a small fact (a description, a relation, a list, a number) that can be judged; the wording comes after.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from edgevl.data.scenes.facts import OPPOSITE, RELATIONS, Spec, View
from edgevl.data.scenes.layout import pick, shuffled
from edgevl.data.scenes.names import COLORS, NUMBERS, SIZES, with_article
from edgevl.data.scenes.questions import choose, everyone, refer

TRIES = 8
LISTED = 4  # a list of more objects would be too long a sentence


@dataclass(frozen=True)
class Statement:
    """label: True when the sentence is true of the scene."""

    text: str
    label: bool


@dataclass(frozen=True)
class Referring:
    """phrase fits exactly one object: objects[object_index]."""

    phrase: str
    object_index: int


@dataclass(frozen=True)
class Has:
    """There is such an object."""

    spec: Spec

    def holds(self, view: View) -> bool:
        return view.count(self.spec) > 0

    def text(self) -> str:
        return with_article(self.spec.one)

    def change(self, view: View, rng: random.Random) -> "Has":
        return Has(change_spec(view, self.spec, rng))


@dataclass(frozen=True)
class Relation:
    """Some object that fits `first` lies on that side of another that fits `second`."""

    first: Spec
    side: str
    second: Spec

    def holds(self, view: View) -> bool:
        """Also True when it is doubtful: a false sentence must be clearly false."""
        return any(
            self.first.fits(a) and self.second.fits(b) and i != j and view.offset(i, self.side, j) > -view.margin
            for i, a in enumerate(view.objects)
            for j, b in enumerate(view.objects)
        )

    def text(self) -> str:
        return f"{with_article(self.first.one)} {self.side} {with_article(self.second.one)}"

    def change(self, view: View, rng: random.Random) -> "Relation":
        what = pick(rng, ("side", "swap", "first", "second"))
        if what == "side":
            return replace(self, side=OPPOSITE[self.side])
        if what == "swap":
            return Relation(self.second, self.side, self.first)
        return replace(self, **{what: change_spec(view, getattr(self, what), rng)})


@dataclass(frozen=True)
class Everything:
    """These objects and no others."""

    specs: tuple[Spec, ...]

    def holds(self, view: View) -> bool:
        described = Counter((s.category, s.color) for s in self.specs)
        return described == view.pairs

    def text(self) -> str:
        *most, last = [with_article(spec.one) for spec in self.specs]
        return f"{NUMBERS[len(self.specs)]} objects: {', '.join(most)} and {last}"

    def change(self, view: View, rng: random.Random) -> "Everything":
        changed = list(self.specs)
        place = int(rng.random() * len(changed))
        changed[place] = change_spec(view, changed[place], rng)
        return Everything(tuple(changed))


@dataclass(frozen=True)
class Number:
    """Exactly so many."""

    spec: Spec
    number: int

    def holds(self, view: View) -> bool:
        return view.count(self.spec) == self.number

    def text(self) -> str:
        return f"exactly {NUMBERS[self.number]} {self.spec.one if self.number == 1 else self.spec.many}"

    def change(self, view: View, rng: random.Random) -> "Number":
        """Mostly the same number of something else: "exactly four cats" would be known to be false unseen."""
        if self.spec != Spec() and rng.random() < 0.75:
            return replace(self, spec=change_spec(view, self.spec, rng))
        lowest = 1 if self.spec != Spec() else 2
        return Number(self.spec, pick(rng, range(lowest, max(4, len(view.objects) + 1))))


Fact = Has | Relation | Everything | Number


def change_spec(view: View, spec: Spec, rng: random.Random) -> Spec:
    """The same description with one property changed."""
    what = pick(rng, [name for name in ("category", "color", "size", "group") if getattr(spec, name)])
    known = {"category": view.known, "color": COLORS, "size": SIZES, "group": view.known_groups}[what]
    return replace(spec, **{what: pick(rng, [name for name in known if name != getattr(spec, what)])})


def describe(view: View, rng: random.Random, i: int, sized: float = 0.3) -> Spec:
    item = view.objects[i]
    return Spec(item.category, item.color, item.size if rng.random() < sized else "")


def has_fact(view: View, rng: random.Random) -> Fact | None:
    i = choose(view, rng, everyone(view))
    return None if i is None else Has(describe(view, rng, i, 0.5))


def relation_fact(view: View, rng: random.Random) -> Fact | None:
    i = choose(view, rng, everyone(view))
    found = [(j, s) for j in everyone(view) if j != i for s in RELATIONS if i is not None and view.is_clear(i, s, j)]
    if i is None or not found:
        return None
    j, side = pick(rng, found)
    return Relation(describe(view, rng, i), side, describe(view, rng, j))


def list_fact(view: View, rng: random.Random) -> Fact | None:
    if len(view.objects) > LISTED:
        return None
    return Everything(tuple(describe(view, rng, i, 0) for i in shuffled(rng, everyone(view))))


def number_fact(view: View, rng: random.Random) -> Fact | None:
    i = choose(view, rng, everyone(view))
    if i is None:
        return None
    item = view.objects[i]
    specs = (Spec(), Spec(color=item.color), Spec(color=item.color), Spec(group=item.group), Spec(item.category))
    spec = pick(rng, specs)
    return Number(spec, view.count(spec))


FACTS: tuple[Callable[[View, random.Random], Fact | None], ...] = (
    has_fact, relation_fact, relation_fact, list_fact, number_fact,
)  # fmt: skip


def specs_of(fact: Fact) -> Sequence[Spec]:
    if isinstance(fact, Relation):
        return fact.first, fact.second
    return fact.specs if isinstance(fact, Everything) else (fact.spec,)


def falsify(fact: Fact, view: View, rng: random.Random) -> Fact | None:
    """The fact with one thing changed, false of the scene, and naming no held-out pair where none may be named."""
    for _ in range(20):
        changed = fact.change(view, rng)
        if not changed.holds(view) and all(view.may_name(spec) for spec in specs_of(changed)):
            return changed
    return None


def draw_captions(view: View, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield different pairs of a true sentence and the same made false."""
    found: set[str] = set()
    for _ in range(TRIES):
        for make in shuffled(rng, FACTS):
            fact = make(view, rng)
            wrong = fact and falsify(fact, view, rng)
            if fact and wrong and (text := fact.text()) not in found:
                found.add(text)
                yield text, wrong.text()


_STATEMENTS = {
    Has: ("there is {}", "the picture shows {}"),
    Relation: ("there is {}", "the picture shows {}"),
    Everything: ("the picture shows {}", "you can see {}"),
    Number: ("you can see {}", "the picture shows {}"),
}


def draw_statements(view: View, rng: random.Random) -> Iterator[Statement]:
    """Yield different statements; each is true or false with equal chance."""
    found: set[str] = set()
    for _ in range(TRIES):
        for make in shuffled(rng, FACTS):
            fact = make(view, rng)
            wrong = fact and falsify(fact, view, rng)
            if fact and wrong:
                label = rng.random() < 0.5
                text = pick(rng, _STATEMENTS[type(fact)]).format((fact if label else wrong).text())
                if text not in found:
                    found.add(text)
                    yield Statement(text, label)


def draw_referring(view: View, rng: random.Random) -> Iterator[Referring]:
    """Yield different phrases, each for exactly one object."""
    found: set[str] = set()
    for _ in range(TRIES):
        for make in shuffled(rng, (_by_name, _by_color, _by_size, _by_relation)):
            made = make(view, rng)
            if made and made[0] not in found:
                found.add(made[0])
                yield Referring(*made)


def _by_name(view: View, rng: random.Random) -> tuple[str, int] | None:
    i = choose(view, rng, everyone(view))
    phrase = None if i is None else refer(view, rng, i)
    return None if phrase is None or i is None else (phrase, i)


def _by_color(view: View, rng: random.Random) -> tuple[str, int] | None:
    i = choose(view, rng, [i for i in everyone(view) if view.colors[view.objects[i].color] == 1])
    return None if i is None else (f"the {view.objects[i].color} object", i)


def _by_size(view: View, rng: random.Random) -> tuple[str, int] | None:
    word = pick(rng, ("largest", "smallest"))
    i = view.extreme(word)
    return None if i is None else (f"the {word} object", i)


def _by_relation(view: View, rng: random.Random) -> tuple[str, int] | None:
    """ "the dog left of the car", where only one such dog exists."""
    made = relation_fact(view, rng)
    if not isinstance(made, Relation):
        return None
    first, second = Spec(made.first.category), Spec(made.second.category, made.second.color)
    fitting = [i for i in everyone(view) if first.fits(view.objects[i])]
    anchors = [j for j in everyone(view) if second.fits(view.objects[j])]
    if len(anchors) != 1:
        return None
    near = [i for i in fitting if i != anchors[0] and view.offset(i, made.side, anchors[0]) > -view.margin]
    if len(near) != 1 or not view.is_clear(near[0], made.side, anchors[0]):
        return None
    return f"the {first.one} {made.side} the {second.one}", near[0]
