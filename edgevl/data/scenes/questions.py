"""Questions with exact answers. Each maker picks the wanted answer first, then a question that has it, so that a model
that does not look at the picture gains nothing. A maker returns None when the scene cannot ask its kind fairly."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgevl.data.scenes.facts import OPPOSITE, RELATIONS, Spec, View
from edgevl.data.scenes.layout import pick, shuffled
from edgevl.data.scenes.names import COLORS, with_article
from edgevl.registry import Registry

COUNT_WEIGHTS = (2, 2, 4, 5, 5, 5, 6)  # of the answers 0 to 6: the rare ones are asked for when they occur
TRIES = 6
PREFER_HELD_OUT = 0.7


@dataclass(frozen=True)
class Question:
    """kind: one of QUESTION_KINDS; answer: one of ANSWERS."""

    kind: str
    text: str
    answer: str


Maker = Callable[[View, random.Random], tuple[str, str] | None]
MAKERS: Registry[Maker] = Registry("question kind")


def draw_questions(view: View, rng: random.Random, kinds: Sequence[str] | None = None) -> Iterator[Question]:
    """Yield different questions; kinds are drawn evenly among those that the scene allows."""
    known = [(kind, MAKERS[kind]) for kind in (kinds or QUESTION_KINDS)]
    found: set[str] = set()
    for _ in range(TRIES):
        for kind, maker in shuffled(rng, known):
            made = maker(view, rng)
            if made and made[0] not in found:
                found.add(made[0])
                yield Question(kind, *made)


def refer(view: View, rng: random.Random, i: int) -> str | None:
    """A phrase that fits only object i: "the cat", or "the red cat"; None when there is none."""
    item = view.objects[i]
    if view.categories[item.category] == 1 and rng.random() < (0.3 if view.held_out[i] else 0.75):
        return f"the {item.category}"
    if view.pairs[item.category, item.color] == 1:
        return f"the {item.color} {item.category}"
    return None


def choose(view: View, rng: random.Random, indices: Sequence[int]) -> int | None:
    """One of the objects; in test_pairs mostly one with a held-out pair."""
    held = [i for i in indices if view.held_out[i]]
    if held and rng.random() < PREFER_HELD_OUT:
        return pick(rng, held)
    return pick(rng, indices) if indices else None


def everyone(view: View) -> range:
    return range(len(view.objects))


@MAKERS.register("exists")
def exists(view: View, rng: random.Random) -> tuple[str, str] | None:
    wanted = rng.random() < 0.5
    i = choose(view, rng, everyone(view))
    assert i is not None
    item = view.objects[i]
    form = pick(rng, ("category", "pair", "pair", "color", "group"))
    if form == "pair":
        spec = Spec(item.category, item.color) if wanted else _absent_pair(view, rng, item)
    else:
        present = getattr(item, form)
        everything = {"category": view.known, "color": COLORS, "group": view.known_groups}[form]
        absent = [name for name in everything if name not in getattr(view, _COUNTS[form])]
        spec = Spec(**{form: present if wanted else pick(rng, absent)})
    if spec is None:
        return None
    template = pick(rng, ("is there {}?", "can you see {}?", "does the picture show {}?"))
    return template.format(with_article(spec.one)), "yes" if wanted else "no"


_COUNTS = {"category": "categories", "color": "colors", "group": "groups"}


def _absent_pair(view: View, rng: random.Random, item) -> Spec | None:
    """A hard negative: this category in a color it does not have here, or this color on a category not here."""
    swap_color = rng.random() < 0.5
    for _ in range(20):
        spec = Spec(item.category, pick(rng, COLORS)) if swap_color else Spec(pick(rng, view.known), item.color)
        if (spec.category, spec.color) not in view.pairs and view.may_name(spec):
            return spec
    return None


@MAKERS.register("count")
def count(view: View, rng: random.Random) -> tuple[str, str] | None:
    by_answer: dict[int, list[Spec]] = defaultdict(list)
    by_answer[len(view.objects)].append(Spec())
    for form, everything in (("color", COLORS), ("group", view.known_groups)):
        counts = getattr(view, _COUNTS[form])
        for name in everything:
            by_answer[counts[name]].append(Spec(**{form: name}))
    for category, number in view.categories.items():
        by_answer[number].append(Spec(category))
    by_answer[0].append(Spec(pick(rng, [c for c in view.known if c not in view.categories])))
    answers = [n for n in by_answer for _ in range(COUNT_WEIGHTS[n])]
    answer = pick(rng, answers)
    template = pick(rng, ("how many {} are there?", "how many {} can you see?", "what is the number of {}?"))
    return template.format(pick(rng, by_answer[answer]).many), str(answer)


@MAKERS.register("color")
def color(view: View, rng: random.Random) -> tuple[str, str] | None:
    i = choose(view, rng, [i for i in everyone(view) if view.categories[view.objects[i].category] == 1])
    if i is None:
        return None
    template = pick(rng, ("what color is the {}?", "what is the color of the {}?", "which color does the {} have?"))
    return template.format(view.objects[i].category), view.objects[i].color


def _relation_target(view: View, rng: random.Random) -> tuple[int, str, str] | None:
    """(object, relation, phrase of the anchor) such that the object is the only one on that side of the anchor."""
    found = []
    for j in everyone(view):
        for relation in RELATIONS:
            i = view.only(relation, j)
            if i is not None:
                found.append((i, relation, j))
    held = [triple for triple in found if view.held_out[triple[0]] or view.held_out[triple[2]]]
    for i, relation, j in shuffled(rng, held if held and rng.random() < PREFER_HELD_OUT else found):
        anchor = refer(view, rng, j)
        if anchor:
            return i, relation, anchor
    return None


@MAKERS.register("relation")
def relation(view: View, rng: random.Random) -> tuple[str, str] | None:
    target = _relation_target(view, rng)
    if target is None:
        return None
    i, side, anchor = target
    template = pick(rng, ("what is {} {}?", "which object is {} {}?", "what can you see {} {}?"))
    return template.format(side, anchor), view.objects[i].category


@MAKERS.register("color_relation")
def color_relation(view: View, rng: random.Random) -> tuple[str, str] | None:
    target = _relation_target(view, rng)
    if target is None:
        return None
    i, side, anchor = target
    template = pick(rng, ("what color is the object {} {}?", "what is the color of the object {} {}?"))
    return template.format(side, anchor), view.objects[i].color


def _looks(view: View, rng: random.Random, words: bool) -> tuple[int, str] | None:
    """An object and a phrase that fits only it and does not name its category: "the red object"."""
    found: list[tuple[int, str]] = []
    for i, item in enumerate(view.objects):
        if view.colors[item.color] == 1:
            found.append((i, Spec(color=item.color).one))
        elif view.count(Spec(color=item.color, size=item.size)) == 1:
            found.append((i, Spec(color=item.color, size=item.size).one))
    for word in ("largest", "smallest") if words else ():
        i = view.extreme(word)
        if i is not None:
            found.append((i, f"{word} object"))
    held = [pair for pair in found if view.held_out[pair[0]]]
    if held and rng.random() < PREFER_HELD_OUT:
        return pick(rng, held)
    return pick(rng, found) if found else None


@MAKERS.register("group")
def group(view: View, rng: random.Random) -> tuple[str, str] | None:
    looks = _looks(view, rng, words=True)
    if looks is None:
        return None
    template = pick(rng, ("what kind of thing is the {}?", "what type of thing is the {}?", "what group is the {} in?"))
    return template.format(looks[1]), view.objects[looks[0]].group


@MAKERS.register("what")
def what(view: View, rng: random.Random) -> tuple[str, str] | None:
    looks = _looks(view, rng, words=False)
    if looks is None:
        return None
    template = pick(rng, ("what is the {}?", "what is the name of the {}?", "what do you call the {}?"))
    return template.format(looks[1]), view.objects[looks[0]].category


@MAKERS.register("extreme")
def extreme(view: View, rng: random.Random) -> tuple[str, str] | None:
    word = pick(rng, ("largest", "smallest"))
    i = view.extreme(word)
    if i is None:
        return None
    synonym = pick(rng, (word, word, {"largest": "biggest", "smallest": "tiniest"}[word]))
    template = pick(rng, ("what is the {} object?", "which object is the {}?", "what is the {} thing in the picture?"))
    return template.format(synonym), view.objects[i].category


@MAKERS.register("compare")
def compare(view: View, rng: random.Random) -> tuple[str, str] | None:
    form, everything = pick(rng, (("color", COLORS), ("group", view.known_groups)))
    counts = getattr(view, _COUNTS[form])
    more = pick(rng, sorted(counts))
    fewer = [name for name in everything if counts[name] < counts[more]]
    seen = [name for name in fewer if counts[name]]
    if not fewer:
        return None
    less = pick(rng, seen if seen and rng.random() < 0.7 else fewer)
    wanted = rng.random() < 0.5
    first, second = (more, less) if wanted else (less, more)
    tied = [name for name in counts if name != second and counts[name] == counts[second]]
    if not wanted and tied and rng.random() < 0.3:
        first = pick(rng, sorted(tied))
    template, swapped = pick(rng, _COMPARE)
    words = [Spec(**{form: name}).many for name in (first, second)]
    return template.format(*(reversed(words) if swapped else words)), "yes" if wanted else "no"


_COMPARE = (
    ("are there more {} than {}?", False),
    ("can you see more {} than {}?", False),
    ("are there fewer {} than {}?", True),
)


@MAKERS.register("same_color")
def same_color(view: View, rng: random.Random) -> tuple[str, str] | None:
    named = [i for i in everyone(view) if view.categories[view.objects[i].category] == 1]
    pairs = [(i, j) for i in named for j in named if i != j]
    same = [(i, j) for i, j in pairs if view.objects[i].color == view.objects[j].color]
    different = [(i, j) for i, j in pairs if view.objects[i].color != view.objects[j].color]
    if not same or not different:
        return None  # asking only where both answers exist keeps them even
    are_same = rng.random() < 0.5
    i, j = pick(rng, same if are_same else different)
    template, about_same = pick(rng, _SAME)
    text = template.format(view.objects[i].category, view.objects[j].category)
    return text, "yes" if are_same == about_same else "no"


_SAME = (
    ("are the {} and the {} the same color?", True),
    ("do the {} and the {} have the same color?", True),
    ("do the {} and the {} have different colors?", False),
)


@MAKERS.register("size")
def size(view: View, rng: random.Random) -> tuple[str, str] | None:
    if len({item.size for item in view.objects}) < 2:
        return None
    wanted = pick(rng, ("small", "large"))
    i = choose(view, rng, [i for i in everyone(view) if view.objects[i].size == wanted])
    phrase = None if i is None else refer(view, rng, i)
    if phrase is None:
        return None
    template = pick(rng, ("is {} small or large?", "is {} large or small?", "what size is {}?"))
    return template.format(phrase), wanted


@MAKERS.register("spatial")
def spatial(view: View, rng: random.Random) -> tuple[str, str] | None:
    i = choose(view, rng, everyone(view))
    assert i is not None
    found = [(j, side) for j in everyone(view) if j != i for side in RELATIONS if view.is_clear(i, side, j)]
    if not found:
        return None
    j, side = pick(rng, found)
    first, second = refer(view, rng, i), refer(view, rng, j)
    if first is None or second is None:
        return None
    wanted = rng.random() < 0.5
    template = pick(rng, ("is {} {} {}?", "can you see {} {} {}?"))
    return template.format(first, side if wanted else OPPOSITE[side], second), "yes" if wanted else "no"


QUESTION_KINDS: tuple[str, ...] = tuple(MAKERS)
