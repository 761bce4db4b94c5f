"""What Scenes can show and say: categories, groups, colors, splits, and their English word forms."""

import hashlib

# name=code point of the emoji in both artwork families. Chosen by eye: shapes that stay apart once tinted in one color.
_GROUPS_TEXT = """
land animal: cat=1f408 elephant=1f418 giraffe=1f992 rabbit=1f407 camel=1f42b kangaroo=1f998 snake=1f40d squirrel=1f43f
bird: penguin=1f427 owl=1f989 duck=1f986 flamingo=1f9a9 peacock=1f99a rooster=1f413
sea animal: whale=1f433 shark=1f988 octopus=1f419 crab=1f980 jellyfish=1fabc fish=1f420
bug: butterfly=1f98b ant=1f41c bee=1f41d ladybug=1f41e spider=1f577 caterpillar=1f41b
fruit: banana=1f34c pineapple=1f34d strawberry=1f353 watermelon=1f349 cherry=1f352 pear=1f350 apple=1f34e
vegetable: carrot=1f955 corn_cob=1f33d broccoli=1f966 eggplant=1f346 mushroom=1f344 onion=1f9c5
snack: pizza=1f355 burger=1f354 taco=1f32e donut=1f369 pretzel=1f968 croissant=1f950 cupcake=1f9c1 cheese=1f9c0
drink: wine_glass=1f377 cocktail=1f378 beer=1f37a juice_box=1f9c3 bubble_tea=1f9cb coffee=2615
vehicle: car=1f697 bus=1f68c bicycle=1f6b2 airplane=2708 helicopter=1f681 tractor=1f69c train=1f682 rocket=1f680
vehicle: sailboat=26f5
building: house=1f3e0 castle=1f3f0 factory=1f3ed tent=26fa tower=1f5fc temple=1f3db fountain=26f2
tool: hammer=1f528 saw=1fa9a wrench=1f527 ladder=1fa9c magnet=1f9f2 gear=2699 anchor=2693 bucket=1faa3 key=1f511
instrument: guitar=1f3b8 trumpet=1f3ba drum=1f941 saxophone=1f3b7 piano=1f3b9 bell=1f514
clothing: shirt=1f455 dress=1f457 hat=1f3a9 boot=1f462 scarf=1f9e3 crown=1f451 handbag=1f45c
sports item: soccer_ball=26bd racket=1f3f8 dartboard=1f3af trophy=1f3c6 skateboard=1f6f9
device: laptop=1f4bb camera=1f4f7 television=1f4fa battery=1f50b gamepad=1f3ae light_bulb=1f4a1 telephone=260e
device: clock=23f0
furniture: chair=1fa91 bed=1f6cf couch=1f6cb bathtub=1f6c1 toilet=1f6bd
plant: cactus=1f335 palm_tree=1f334 pine_tree=1f332 tulip=1f337 sunflower=1f33b clover=1f340 maple_leaf=1f341
sky object: star=2b50 moon=1f319 cloud=2601 snowflake=2744 rainbow=1f308 planet=1fa90 lightning_bolt=26a1 tornado=1f32a
toy: teddy_bear=1f9f8 balloon=1f388 die=1f3b2 kite=1fa81 puzzle_piece=1f9e9
"""

CODE_POINT_OF: dict[str, str] = {}  # category -> lower-case hexadecimal code point
GROUP_OF: dict[str, str] = {}
for _line in _GROUPS_TEXT.strip().splitlines():
    _group, _members = _line.split(": ")
    for _member in _members.split():
        _name, _code = _member.split("=")
        CODE_POINT_OF[_name.replace("_", " ")] = _code
        GROUP_OF[_name.replace("_", " ")] = _group

CATEGORIES: tuple[str, ...] = tuple(CODE_POINT_OF)
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(GROUP_OF.values()))
# Sixteen that a model can learn to tell apart from a tenth of the pictures: two of each of eight groups.
FEW_CATEGORIES: tuple[str, ...] = (
    "cat", "elephant", "penguin", "owl", "banana", "pineapple", "car", "bus", "hammer", "saw", "guitar", "trumpet",
    "shirt", "dress", "star", "moon",
)  # fmt: skip
COLORS: tuple[str, ...] = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES: tuple[str, ...] = ("small", "large")
SPLITS: tuple[str, ...] = ("train", "val", "test", "test_style", "test_pairs")
FAMILY_OF_SPLIT = {split: "noto" if split == "test_style" else "fluent" for split in SPLITS}
NUMBERS: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five", "six")
ANSWERS: tuple[str, ...] = (
    "yes", "no", *(str(n) for n in range(7)), *SIZES, *COLORS, *GROUPS, *CATEGORIES,
)  # fmt: skip

_PLURALS = {
    "fish": "fish", "jellyfish": "jellyfish", "broccoli": "broccoli", "bus": "buses", "scarf": "scarves", "die": "dice",
    "cactus": "cactuses", "octopus": "octopuses", "maple leaf": "maple leaves", "wine glass": "wine glasses",
    "juice box": "juice boxes", "dress": "dresses", "torch": "torches", "couch": "couches", "wrench": "wrenches",
}  # fmt: skip
_GROUP_SINGULAR = {"clothing": "piece of clothing", "furniture": "piece of furniture"}
_GROUP_PLURAL = {"clothing": "pieces of clothing", "furniture": "pieces of furniture"}


def held_out(category: str, color: str) -> bool:
    """True for the (category, color) pairs, about 8 %, that appear only in the split `test_pairs`."""
    return hashlib.sha256(f"{category}/{color}".encode()).digest()[0] < 21


HELD_OUT: tuple[tuple[str, str], ...] = tuple((k, c) for k in CATEGORIES for c in COLORS if held_out(k, c))
HELD_OUT_SET = frozenset(HELD_OUT)


def plural(noun: str) -> str:
    """The plural of a category: `cat` -> `cats`, `cherry` -> `cherries`."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def group_singular(group: str) -> str:
    """`tool` -> `tool`, `furniture` -> `piece of furniture`."""
    return _GROUP_SINGULAR.get(group, group)


def group_plural(group: str) -> str:
    """`tool` -> `tools`, `furniture` -> `pieces of furniture`."""
    return _GROUP_PLURAL.get(group) or plural(group)


def with_article(phrase: str) -> str:
    """`cat` -> `a cat`, `orange cat` -> `an orange cat`."""
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"
