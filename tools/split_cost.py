"""What the second question about a picture costs, with a split bundle: ratio of the medians, interleaved.

    python tools/split_cost.py nano-onnx-fp32-split.edgevl

The first question pays for decoding, resizing, encoding and answering, the second for answering alone.
"""

import argparse
import statistics
import time
from pathlib import Path

from edgevl.bench.machine import pinned_threads
from edgevl.bench.picture import encode, make_photo
from edgevl.bundle.folder import Bundle
from edgevl.inputs.images import to_tensor

QUESTIONS = ("what color is the car?", "how many animals are there?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    model = Bundle.open(arguments.bundle).opened(arguments.threads, remember=0)
    sessions = model.runner.sessions if model.runner else {}
    if set(sessions) != {"vision", "fusion"}:
        parser.error(f"{arguments.bundle} is not a split bundle: edgevl export --layout split")
    vision_session, fusion, (processing,) = sessions["vision"], sessions["fusion"], model.images.values()
    (codec,) = model.texts.values()
    words = [{"input_ids": codec.encode(text)[None]} for text in QUESTIONS]
    photo = encode(make_photo())
    times: dict[str, list[float]] = {"picture": [], "vision": [], "first": [], "second": []}
    with pinned_threads(arguments.threads):
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            pixels = to_tensor(photo, processing)[None]
            decoded = time.perf_counter()
            visual = vision_session.run({"image": pixels})
            encoded = time.perf_counter()
            fusion.run({**visual, **words[0]})
            answered = time.perf_counter()
            fusion.run({**visual, **words[1]})
            moments = (start, decoded, encoded, answered, time.perf_counter())
            for taken, begin, end in zip(times.values(), moments, moments[1:]):
                taken.append(1000 * (end - begin))
    picture, vision, first, second = (statistics.median(taken) for taken in times.values())
    print(f"{arguments.bundle.name}, {arguments.threads} thread(s), medians of {arguments.rounds} in ms")
    print(f"decode and resize {picture:.2f}, vision {vision:.2f}, first answer {first:.2f}, second answer {second:.2f}")
    print(f"second question / first, model only: {100 * second / (vision + first):.0f} %")
    print(f"second question / first, with the picture: {100 * second / (picture + vision + first):.0f} %")


if __name__ == "__main__":
    main()
