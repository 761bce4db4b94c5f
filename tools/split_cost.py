"""What the second question about a picture costs, with a split bundle: ratio of the medians, interleaved.

    python tools/split_cost.py nano-onnx-fp32-split.edgevl

The first question pays for decoding, resizing, encoding and answering, the second for tokenizing and answering.
"""

import argparse
import statistics
import time
from pathlib import Path

from edgevl.bench.machine import pinned_threads
from edgevl.bench.picture import encode, make_photo
from edgevl.bundle import Bundle
from edgevl.preprocess import load_image, to_pixels
from edgevl.runtime.split_session import SplitSession

QUESTIONS = ("what color is the car?", "how many animals are there?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    session, tokenizer, manifest = bundle.session(arguments.threads), bundle.tokenizer(), bundle.manifest
    if not isinstance(session, SplitSession):
        parser.error(f"{arguments.bundle} is not a split bundle: edgevl export --layout split")
    words = [{"input_ids": tokenizer.encode(text, manifest.tokenizer.length)[None]} for text in QUESTIONS]
    photo = encode(make_photo())
    pixels = to_pixels(load_image(photo), manifest.preprocessing.size)[None]
    times: dict[str, list[float]] = {"picture": [], "vision": [], "fusion": []}
    with pinned_threads(arguments.threads):
        visual = session.encode({"image": pixels})
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            pixels = to_pixels(load_image(photo), manifest.preprocessing.size)[None]
            decoded = time.perf_counter()
            visual = session.encode({"image": pixels})
            encoded = time.perf_counter()
            session.answer(visual, words[0])
            answered = time.perf_counter()
            for name, begin, end in (
                ("picture", start, decoded), ("vision", decoded, encoded), ("fusion", encoded, answered),
            ):  # fmt: skip
                times[name].append(1000 * (end - begin))
            session.answer(visual, words[1])
    picture, vision, fusion = (statistics.median(times[name]) for name in times)
    print(f"{arguments.bundle.name}, {arguments.threads} thread(s), medians of {arguments.rounds} in ms")
    print(f"decode and resize {picture:.2f}, vision {vision:.2f}, fusion {fusion:.2f}")
    print(f"second question / first, model only: {100 * fusion / (vision + fusion):.0f} %")
    print(f"second question / first, with the picture: {100 * fusion / (picture + vision + fusion):.0f} %")


if __name__ == "__main__":
    main()
