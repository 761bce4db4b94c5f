"""The picture that a benchmark decodes: made here, the same bytes' worth of work everywhere, nothing to ship.

Smooth color fields with 1/f detail and hard-edged shapes: a JPEG of it has about the size and entropy of a photo's.
"""

import io

import numpy as np
from PIL import Image, ImageDraw


def make_photo(height: int = 600, width: int = 1000, seed: int = 7) -> np.ndarray:
    """A photo-like uint8 [H, W, 3] picture, deterministic in its arguments."""
    rng = np.random.default_rng(seed)
    fields = np.stack([_fractal_noise(rng, height, width) for _ in range(3)], axis=-1)
    shared = _fractal_noise(rng, height, width)[..., None]  # brightness varies more than color, as in photos
    pixels = 128 + 55 * shared + 18 * fields
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.04, 0.16) * height
        color = tuple(int(value) for value in rng.integers(20, 236, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - radius, y - radius * 0.8, x + radius, y + radius * 0.8), fill=color)
    return np.asarray(image)


def encode(pixels: np.ndarray, kind: str = "JPEG", quality: int = 90) -> bytes:
    """The picture as the bytes of a JPEG or PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return buffer.getvalue()


def _fractal_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise with a 1/f amplitude spectrum, mean 0, standard deviation 1, [H, W]."""
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1.0 / np.maximum(np.hypot(x, y), 1.0 / max(height, width))
    amplitude[0, 0] = 0.0
    phase = rng.standard_normal(amplitude.shape) + 1j * rng.standard_normal(amplitude.shape)
    noise = np.fft.irfft2(phase * amplitude, s=(height, width))
    return (noise - noise.mean()) / noise.std()
