"""What people call an opponent. JSON and options keep the short name."""

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
    return TITLES.get(name, name)
