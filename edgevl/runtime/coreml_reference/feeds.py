"""What a user hands to a program: checked, cast where nothing can be lost, and turned into the program's tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .interface import TensorSpec
from .seam import InputError

Array = np.ndarray | Tensor


def to_arrays(specs: Sequence[TensorSpec], feeds: Mapping[str, Any], kind: str = "input") -> dict[str, np.ndarray]:
    """Return an array of the right dtype and shape for every input, or whatever `kind` is.

    Torch tensors are taken, and casts that NumPy calls safe; an integer may have any integer dtype that its values fit.
    An optional input that is left out is filled with its default.

    Raises:
        InputError: a missing or unknown name, a dtype or a shape that does not fit; it names what is expected.
    """
    expected = "; expected " + ", ".join(map(str, specs))
    arrays = {}
    for spec in specs:
        if spec.name in feeds:
            arrays[spec.name] = _cast(spec, feeds[spec.name], kind, expected)
        elif spec.default is not None:
            arrays[spec.name] = np.full(spec.shape, spec.default, spec.dtype)
        else:
            raise InputError(f'{kind} "{spec.name}" is missing{expected}')
    extra = sorted(set(feeds) - set(arrays))
    if extra:
        raise InputError(f'unknown {kind} "{extra[0]}"{expected}')
    return arrays


def _cast(spec: TensorSpec, given: Any, kind: str, expected: str) -> np.ndarray:
    array = _as_numpy(given)
    if array is None:
        raise InputError(f'{kind} "{spec.name}" is a {type(given).__name__}, not a NumPy array{expected}')
    if not spec.allows(array.shape):
        raise InputError(f'{kind} "{spec.name}" has shape {list(array.shape)}{expected}')
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted or np.can_cast(array.dtype, wanted, "safe") or _fits(array, wanted):
        return array.astype(wanted, copy=False)
    raise InputError(f'{kind} "{spec.name}" has dtype {array.dtype}{expected}')


def _as_numpy(given: Any) -> np.ndarray | None:
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        return (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    return given if isinstance(given, np.ndarray) else None


def _fits(array: np.ndarray, wanted: np.dtype) -> bool:
    """Integers of another dtype whose values all exist in the wanted one."""
    if array.dtype.kind not in "iu" or wanted.kind not in "iu":
        return False
    limits = np.iinfo(wanted)
    return not array.size or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)


def to_tensor(spec: TensorSpec, array: np.ndarray) -> Tensor:
    """Return the program's tensor: half precision as float32, pixels as planes in the order of the input's colors."""
    if spec.color:
        array = array[..., ::-1] if spec.color == "BGR" else array
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2), dtype=np.float32)
    array = array.astype(np.float32) if array.dtype == np.float16 else array
    array = array.astype(np.int32) if array.dtype == np.uint16 else array
    return torch.from_numpy(np.array(array, order="C"))


def to_output(spec: TensorSpec, tensor: Tensor) -> np.ndarray:
    """Return a program's result as Core ML gives it. Planes of an image become pixels: see `_to_pixels`."""
    array = tensor.numpy()
    if not spec.color:
        return array.astype(spec.dtype, copy=True)
    pixels = array.transpose(0, 2, 3, 1)
    pixels = pixels[..., ::-1] if spec.color == "BGR" else pixels
    return np.ascontiguousarray(pixels.astype(np.float16) if spec.dtype == "float16" else _to_pixels(pixels))


def _to_pixels(values: np.ndarray) -> np.ndarray:
    """Round to the nearest whole number, ties to even, within 0..255; what is no number is 0. How Core ML rounds is not
    written anywhere: `mac.py` asks."""
    return np.nan_to_num(values, nan=0.0).round().clip(0, 255).astype(np.uint8)
