"""How many scenes a second one core makes.

python -m edgevl.data.scenes.benchmark --scenes 2000 --size 128
"""

import argparse
import json
import time
from collections.abc import Callable

from edgevl.data.scenes.scene import Scene, Scenes


def measure(split: str = "train", scenes: int = 2000, size: int = 128) -> dict[str, float]:
    """Scenes a second for the image with its objects, and for that with each kind of text. Sprites are warm."""
    data = Scenes(split, size=size)
    for i in range(500):
        data.scene(i)
    parts: dict[str, Callable[[Scene], object]] = {
        "image": lambda scene: scene,
        "image_4_questions": lambda scene: scene.questions(4),
        "image_2_captions": lambda scene: scene.captions(2),
        "image_4_statements": lambda scene: scene.statements(4),
        "image_2_referring": lambda scene: scene.referring(2),
        "image_grid_8": lambda scene: scene.grid(8),
    }
    return {name: round(_per_second(data, scenes, make), 1) for name, make in parts.items()}


def _per_second(data: Scenes, scenes: int, make: Callable[[Scene], object]) -> float:
    start = time.perf_counter()
    for i in range(500, 500 + scenes):
        make(data.scene(i))
    return scenes / (time.perf_counter() - start)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="train")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--size", type=int, default=128)
    args = parser.parse_args(argv)
    result = measure(args.split, args.scenes, args.size)
    print(json.dumps({"split": args.split, "size": args.size, "scenes": args.scenes, "scenes_per_second": result}))


if __name__ == "__main__":
    main()
