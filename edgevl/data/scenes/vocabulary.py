"""Every word that a text of Scenes can contain, for building a tokenizer."""

from edgevl.data.scenes.names import ANSWERS, CATEGORIES, COLORS, GROUPS, NUMBERS, SIZES, group_plural, group_singular
from edgevl.data.scenes.names import plural as plural_of

_TEMPLATE_WORDS = """
a an the is are there can you see does do picture show shows how many what number of color colors which have and or
same different object objects thing kind type group in it name call largest smallest biggest tiniest more fewer than
size left right above below exactly
"""

VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {
            word
            for phrase in (
                _TEMPLATE_WORDS,
                *ANSWERS,
                *NUMBERS,
                *COLORS,
                *SIZES,
                *(form for group in GROUPS for form in (group, group_singular(group), group_plural(group))),
                *(form for category in CATEGORIES for form in (category, plural_of(category))),
            )
            for word in phrase.split()
        }
    )
)
PUNCTUATION = ("?", ",", ":")
