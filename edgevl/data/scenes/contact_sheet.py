"""A picture of scenes with what is asked and said about them, for a person to look at."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from edgevl.data.scenes.scene import Scene

COLUMNS = 4
SIDE, GAP, LINE = 256, 14, 15  # pixels
LINES = 8
WIDEST = 44  # characters a line


def contact_sheet(scenes: Sequence[Scene], columns: int = COLUMNS) -> Image.Image:
    """An RGB picture; under each scene its questions and answers, a caption, that caption made false, a phrase."""
    columns = min(columns, len(scenes))
    rows = -(-len(scenes) // columns)
    height = SIDE + LINES * LINE + GAP
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, rows * height + GAP), "white")
    for i, scene in enumerate(scenes):
        _draw(sheet, scene, GAP + i % columns * (SIDE + GAP), GAP + i // columns * height)
    return sheet


def _draw(sheet: Image.Image, scene: Scene, x: int, y: int) -> None:
    sheet.paste(Image.fromarray(scene.image).resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, y))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for i, (text, ink) in enumerate(_texts(scene)[:LINES]):
        draw.text((x, y + SIDE + 3 + i * LINE), text, fill=ink, font=font)


def _texts(scene: Scene) -> list[tuple[str, str]]:
    lines = [(f"{question.text} {question.answer}", "black") for question in scene.questions(4)]
    lines += [(f"+ {text}", "darkgreen") for text in scene.captions(1)]
    lines += [(f"\u2013 {text}", "firebrick") for text in scene.negative_caption(1)]
    lines += [(f"{r.phrase} = object {r.object_index + 1}", "navy") for r in scene.referring(1)]
    return [(text if len(text) <= WIDEST else text[: WIDEST - 1] + "\u2026", ink) for text, ink in lines]
