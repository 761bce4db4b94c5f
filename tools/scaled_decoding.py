"""What decoding JPEGs at a smaller scale changes: pixels, answers, milliseconds, for JPEGs of ten sizes of Scenes.

    python tools/scaled_decoding.py nano-onnx-fp32.edgevl [--samples 2000]

Every picture of Scenes `test`, drawn at up to 512 pixels, is brought to each size and saved as a JPEG of quality 90,
then asked about as if the bundle declared `decode` whole, and scaled. Prints a table: mean and largest difference of
the pixels that go into the model, accuracy, and how long decoding and resizing took, whole and scaled in turns.
"""

import argparse
import dataclasses
import io
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from edgevl.bundle.folder import Bundle
from edgevl.bundle.specs import ImageProcessing
from edgevl.contracts import Query, Sample
from edgevl.inputs.images import to_tensor
from edgevl.opened import Opened
from edgevl.verify.measure import draw
from edgevl.verify.measure import measure as answered

# Width and height: phones' photos upright and across, thumbnails, a banner; some sides are no multiples of 8.
SIZES = [
    (4032, 3024), (1920, 1080), (1080, 1920), (1000, 600), (800, 800),
    (641, 479), (480, 640), (320, 240), (257, 300), (150, 200),
]  # fmt: skip
DRAWN = 512  # pixels of Scenes at most: larger JPEGs are enlarged
DECODINGS = ("whole", "scaled")


@dataclasses.dataclass
class Row:
    """What was found for a size: differences in levels of 255, and seconds of each decoding."""

    means: list[float] = dataclasses.field(default_factory=list)
    largest: int = 0
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=lambda: {name: [] for name in DECODINGS})


def jpeg_of(picture: np.ndarray, width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def read_both(jpeg: bytes, processing: ImageProcessing, row: Row) -> dict[str, np.ndarray]:
    """Return uint8 [S, S, 3] of each decoding; the first is another one each time."""
    found: dict[str, np.ndarray] = {}
    for name in DECODINGS[:: 1 if len(row.means) % 2 else -1]:
        start = time.perf_counter()
        found[name] = to_tensor(jpeg, processing.model_copy(update={"decode": name}))
        row.seconds[name].append(time.perf_counter() - start)
    difference = np.abs(found["whole"].astype(int) - found["scaled"])
    row.means.append(float(difference.mean()))
    row.largest = max(row.largest, int(difference.max()))
    return found


def measure(model: Opened, data: str, count: int, width: int, height: int) -> str:
    """Return a row of the table."""
    samples = draw(data, model.task_name, count, min(max(width, height), DRAWN))
    row, (processing,) = Row(), model.images.values()
    asked: dict[str, list[Sample]] = {name: [] for name in DECODINGS}
    known: dict[int, dict[str, np.ndarray]] = {}
    for sample in samples:
        (picture,) = sample.query.pictures
        if id(picture) not in known:
            known[id(picture)] = read_both(jpeg_of(np.asarray(picture), width, height), processing, row)
        for name, pixels in known[id(picture)].items():
            asked[name].append(dataclasses.replace(sample, query=Query((pixels,), sample.query.texts)))
    accuracy = {name: 100 * answered(model, each).metrics[0].value for name, each in asked.items()}
    times = {name: 1000 * statistics.median(seconds) for name, seconds in row.seconds.items()}
    ratio = statistics.median(a / b for a, b in zip(*row.seconds.values(), strict=True))
    numbers = f"{np.mean(row.means):.2f} | {row.largest} | {accuracy['whole']:.2f} | {accuracy['scaled']:.2f}"
    return f"| {width} × {height} | {numbers} | {times['whole']:.2f} | {times['scaled']:.2f} | {ratio:.2f} |"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", default="scenes:test")
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args(argv)
    model = Bundle.open(args.bundle).checked().opened(threads=1, remember=0)
    print("| JPEG | mean difference | largest | whole, % | scaled, % | whole, ms | scaled, ms | whole : scaled |")
    print("|---|---|---|---|---|---|---|---|")
    for width, height in SIZES:
        print(measure(model, args.data, args.samples, width, height), flush=True)


if __name__ == "__main__":
    main()
