"""Reads the English of Scenes and judges it from the objects alone, sharing no code with the makers of the texts."""

import re
from collections import Counter

from edgevl.data.scenes import CATEGORIES, COLORS, GROUPS, SceneObject
from edgevl.data.scenes.names import group_plural, group_singular, plural

NOUNS = {"object": lambda o: True, "objects": lambda o: True, "thing": lambda o: True}
for _category in CATEGORIES:
    for _form in (_category, plural(_category)):
        NOUNS[_form] = lambda o, c=_category: o.category == c
for _group in GROUPS:
    for _form in (group_singular(_group), group_plural(_group)):
        NOUNS[_form] = lambda o, g=_group: o.group == g
SIDES = ("left of", "right of", "above", "below")
MARGIN = 10.0  # at 128 px
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
WANT = r"(left of|right of|above|below)"


def find(phrase: str, objects) -> list[SceneObject]:
    """The objects that "the large red cat", "a tool" or "pieces of furniture" can mean."""
    phrase = re.sub(r"^(a|an|the) ", "", phrase)
    words = {"largest": "largest", "biggest": "largest", "smallest": "smallest", "tiniest": "smallest"}
    if phrase.split()[0] in words:
        side = {id(o): max(o.box[2] - o.box[0], o.box[3] - o.box[1]) for o in objects}
        sign = 1 if words[phrase.split()[0]] == "largest" else -1
        order = sorted(objects, key=lambda o: -sign * side[id(o)])
        assert abs(side[id(order[0])] - side[id(order[1])]) >= 8, "the largest or smallest object must be clear"
        return order[:1]
    size, color = "", ""
    if phrase.split()[0] in ("small", "large"):
        size, phrase = phrase.split(" ", 1)
    if phrase.split()[0] in COLORS:
        color, phrase = phrase.split(" ", 1)
    fits = NOUNS[phrase]
    return [o for o in objects if fits(o) and size in ("", o.size) and color in ("", o.color)]


def one(phrase: str, objects) -> SceneObject:
    found = find(phrase, objects)
    assert len(found) == 1, f'"{phrase}" fits {len(found)} objects'
    return found[0]


def distance(a, side: str, b) -> float:
    ax, ay, bx, by = (
        (a.box[0] + a.box[2]) / 2,
        (a.box[1] + a.box[3]) / 2,
        (b.box[0] + b.box[2]) / 2,
        (b.box[1] + b.box[3]) / 2,
    )
    return {"left of": bx - ax, "right of": ax - bx, "above": by - ay, "below": ay - by}[side]


def beside(side: str, anchor, objects) -> SceneObject:
    """The one object clearly on that side; nobody else may even nearly be there."""
    near = [o for o in objects if o is not anchor and distance(o, side, anchor) > -MARGIN]
    assert len(near) == 1 and distance(near[0], side, anchor) >= MARGIN, f"{len(near)} objects may be {side} the anchor"
    return near[0]


def answer(text: str, objects) -> str:
    """The answer to a question of Scenes. Raises AssertionError when it is ambiguous or not understood."""
    text = text.removesuffix("?")

    def yes(fact) -> str:
        return "yes" if fact else "no"

    if m := re.fullmatch(r"(?:how many (.+?) (?:are there|can you see)|what is the number of (.+))", text):
        return str(len(find(m[1] or m[2], objects)))
    if m := re.fullmatch(r"(?:are there|can you see) (more|fewer) (.+) than (.+)", text):
        first, second = len(find(m[2], objects)), len(find(m[3], objects))
        return yes(first > second if m[1] == "more" else first < second)
    if m := re.fullmatch(r"are (the .+) and (the .+) the same color", text):
        return yes(one(m[1], objects).color == one(m[2], objects).color)
    if m := re.fullmatch(r"do (the .+) and (the .+) have (the same color|different colors)", text):
        return yes((one(m[1], objects).color == one(m[2], objects).color) == (m[3] == "the same color"))
    if m := re.fullmatch(r"(?:is (the .+) (?:small or large|large or small)|what size is (the .+))", text):
        return one(m[1] or m[2], objects).size
    if m := re.fullmatch(rf"(?:is|can you see) (the .+) {WANT} (the .+)", text):
        gap = distance(one(m[1], objects), m[2], one(m[3], objects))
        assert abs(gap) >= MARGIN, "a doubtful relation"
        return yes(gap > 0)
    if m := re.fullmatch(r"(?:is there|can you see|does the picture show) (an? .+)", text):
        return yes(find(m[1], objects))
    if m := re.fullmatch(rf"what (?:color is|is the color of) the object {WANT} (the .+)", text):
        return beside(m[1], one(m[2], objects), objects).color
    if m := re.fullmatch(r"(?:what color is|what is the color of) (the .+)|which color does (the .+) have", text):
        return one(m[1] or m[2], objects).color
    if m := re.fullmatch(rf"(?:what is|which object is|what can you see) {WANT} (the .+)", text):
        return beside(m[1], one(m[2], objects), objects).category
    if m := re.fullmatch(r"what (?:kind|type) of thing is (the .+)|what group is (the .+) in", text):
        return one(m[1] or m[2], objects).group
    if m := re.fullmatch(r"which object is the (\w+)|what is the (\w+) thing in the picture", text):
        return one(f"the {m[1] or m[2]} object", objects).category
    if m := re.fullmatch(r"what is (?:the name of )?(the .+)|what do you call (the .+)", text):
        return one(m[1] or m[2], objects).category
    raise AssertionError(f"not understood: {text}")


def judge(sentence: str, objects) -> bool:
    """Is a caption, or a statement without its opening, true of the objects?"""
    if m := re.fullmatch(r"exactly (\w+) (.+)", sentence):
        return len(find(m[2], objects)) == NUMBERS.index(m[1])
    if m := re.fullmatch(r"(\w+) objects: (.+)", sentence):
        named = re.split(r", | and ", m[2])
        assert len(named) == NUMBERS.index(m[1])
        described = Counter(re.sub(r"^an? ", "", name) for name in named)
        return described == Counter(f"{o.color} {o.category}" for o in objects)
    if m := re.fullmatch(rf"(an? .+) {WANT} (an? .+)", sentence):
        firsts, seconds = find(m[1], objects), find(m[3], objects)
        gaps = [distance(a, m[2], b) for a in firsts for b in seconds if a is not b]
        clear = any(gap >= MARGIN for gap in gaps)
        assert clear or not any(gap > -MARGIN for gap in gaps), "a doubtful relation"
        return clear
    return bool(find(sentence, objects))
