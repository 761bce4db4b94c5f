"""What people call an opponent, and what others have published. JSON and options keep the short name."""

import dataclasses

INT8 = "-int8"  # of the name of an opponent whose files were quantized
TITLES = {
    "region-heavy": "Faster R-CNN R101-C4 + BERT-base",
    "region-heavy-fpn": "Faster R-CNN R50-FPN + BERT-base",
    "region-r50": "Faster R-CNN R50-FPN + our transformer",
    "region-light-ssd": "SSDLite320 MobileNetV3 + our transformer",
    "region-light-frcnn": "Faster R-CNN MobileNetV3-320 + our transformer",
    "dfine": "D-FINE nano + our transformer",
    "vilt": "ViLT-B/32",
}


def title_of(name: str) -> str:
    """Return the title of an opponent; of anything else its name."""
    plain = name.removesuffix(INT8)
    return TITLES[plain] + (", int8" if plain != name else "") if plain in TITLES else name


@dataclasses.dataclass(frozen=True)
class Published:
    """A time that a paper reports for one picture and text, its detector included."""

    name: str
    milliseconds: float


PUBLISHED = (Published("UNITER-Base", 900), Published("VinVL-Base", 650), Published("Pixel-BERT-R50", 60))
PUBLISHED_BASE = Published("ViLT-B/32", 15)
PUBLISHED_BY = "the ViLT paper, arXiv 2102.03334, on an NVIDIA P40"


def published() -> str:
    """Return one sentence: how many times slower others measured pipelines with a detector than one without."""
    base = PUBLISHED_BASE
    times = ", ".join(f"{each.name} {each.milliseconds / base.milliseconds:.0f} times" for each in PUBLISHED)
    return f"Published for {base.name}, {base.milliseconds:g} ms: {times} as long ({PUBLISHED_BY})."
