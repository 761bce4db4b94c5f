"""A picture of scenes with what is asked and said about them, for a person to look at."""

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

from edgevl.data.scenes.scene import Scene

COLUMNS = 4
SIDE, GAP, LINE, FONT = 384, 24, 22, 17  # pixels; the default font joins words below 14
LINES = 10


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
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    y += SIDE + 3
    for text, ink in _texts(scene):
        for line in _wrap(text, lambda text: draw.textlength(text, font) <= SIDE):
            draw.text((x, y), line, fill=ink, font=font)
            y += LINE


def _wrap(text: str, fits: Callable[[str], bool]) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if fits(longer):
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _texts(scene: Scene) -> list[tuple[str, str]]:
    lines = [(f"{question.text} {question.answer}", "black") for question in scene.questions(3)]
    lines += [(f"true: {text}", "darkgreen") for text in scene.captions(1)]
    lines += [(f"false: {text}", "firebrick") for text in scene.negative_caption(1)]
    return lines + [(f"{r.phrase}: the {scene.objects[r.object_index].category}", "navy") for r in scene.referring(1)]
