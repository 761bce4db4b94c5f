"""Pictures and questions of other kinds than Scenes, to see how many of them are noticed. No limit was set on these.

Shapes: S side of the model's picture. Everything but the photographs is drawn from a seed.
"""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgevl.errors import InputError, MissingDependency
from edgevl.inputs.preprocess import load_image, to_pixels

PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png",
    "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
DRAWINGS = ("chessboard_RGB.png", "color.png", "horse.png", "logo.png", "phantom.png")
CROPS = 10  # of each file, beside the whole

EVERYDAY = (
    "is there a dog?", "what is the man holding?", "how many people are in the picture?", "is it raining?",
    "what sport is this?", "what time is it?", "is the woman smiling?", "what is on the table?", "what room is this?",
    "what does the sign say?", "is the light on?", "who is driving the car?", "what is the weather like?",
    "are they happy?", "what brand is the laptop?", "is this a kitchen?", "what is in the background?",
    "where was this taken?", "is the food healthy?", "how old is the boy?", "what kind of bird is this?",
    "is the bus moving?", "what are the animals eating?", "why is the street wet?", "does the man wear glasses?",
)  # fmt: skip
LANGUAGES = (
    "welche Farbe hat das Auto?", "ist da eine Katze?", "quelle est la couleur de la voiture ?", "y a-t-il un chat ?",
    "¿de qué color es el coche?", "¿hay un gato?", "di che colore è l'auto?", "qual é a cor do carro?",
    "welke kleur heeft de auto?", "jakiego koloru jest samochód?", "какого цвета машина?", "車は何色ですか？",
    "汽车是什么颜色的？", "자동차는 무슨 색이에요?", "ما لون السيارة؟", "कार का रंग क्या है?",
)  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def files(names: tuple[str, ...], size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield uint8 [S, S, 3] of pictures in scikit-image's package: each whole, and `CROPS` squares of it.

    Raises `MissingDependency` without scikit-image, `InputError` if its package does not hold a file.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise MissingDependency("scikit-image", "domain", "measuring on photographs")
    rng = np.random.default_rng(seed)
    for name in names:
        path = Path(spec.origin).parent / "data" / name
        if not path.is_file():
            raise InputError(f"this scikit-image has no {name}: pip install -U scikit-image")
        picture = load_image(path)
        yield to_pixels(picture, size)
        for _ in range(CROPS):
            side = int(rng.uniform(0.2, 0.9) * min(picture.size))
            left, top = (int(rng.uniform(0, length - side)) for length in picture.size)
            yield to_pixels(picture.crop((left, top, left + side, top + side)), size)


def uniform(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.integers(0, 256, (size, size, 3), np.uint8)


def gaussian(rng: np.random.Generator, size: int) -> np.ndarray:
    """A gray with noise of 8 to 60 levels around it."""
    values = rng.uniform(60, 190) + rng.normal(0, rng.uniform(8, 60), (size, size, 3))
    return values.clip(0, 255).astype(np.uint8)


def constant(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)


def gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    """From one color to another: down, across, or both."""
    first, second, ramp = *rng.integers(0, 256, (2, 3)), np.linspace(0, 1, size)
    down, across = np.meshgrid(ramp, ramp, indexing="ij")
    share = (down, across, (down + across) / 2)[rng.integers(3)][..., None]
    return (first * (1 - share) + second * share).astype(np.uint8)


def screenshot(rng: np.random.Generator, size: int) -> np.ndarray:
    """Lines of random letters, dark on white or light on black, made smaller to S."""
    side, dark, height = int(rng.uniform(300, 900)), rng.random() < 0.5, float(rng.uniform(10, 28))
    picture = Image.new("RGB", (side, side), (20, 20, 24) if dark else (255, 255, 255))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=height)
    for top in np.arange(4, side, 1.3 * height):
        draw.text((8, top), _scribble(rng, int(rng.uniform(5, 90))), (220,) * 3 if dark else (10,) * 3, font)
    return to_pixels(picture, size)


NOISE: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "uniform noise": uniform,
    "Gaussian noise": gaussian,
    "one color": constant,
    "gradients": gradient,
    "screenshots of text": screenshot,
}


def noise(kind: str, count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield `count` pictures uint8 [S, S, 3] of a kind of `NOISE`."""
    rng = np.random.default_rng(seed)
    return (NOISE[kind](rng, size) for _ in range(count))


def gibberish(count: int, seed: int) -> tuple[str, ...]:
    """Questions of random letters: two to five words of three to eight."""
    rng = np.random.default_rng(seed)
    words = [[_word(rng) for _ in range(rng.integers(2, 6))] for _ in range(count)]
    return tuple(" ".join(each) + "?" for each in words)


def _word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(_LETTERS), rng.integers(3, 9)))


def _scribble(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(list(_LETTERS + "     "), length))
