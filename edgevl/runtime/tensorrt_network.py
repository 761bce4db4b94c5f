"""What the products of a network multiply in, as TensorRT parsed it: not our ONNX, TensorRT's own layers.

`python -m edgevl.runtime.tensorrt_network FILE --check ...` is `build_engine.py`, which is full, with `macs` in its
records. An operand is int8 if a Dequantize layer that reads int8 gives it, with nothing but changes of shape between.
"""

import sys
from collections import Counter
from typing import Any

from edgevl.apps.jetson import build_engine
from edgevl.formats.graph import (
    Shape,
    convolution_macs,
    einsum_macs,
    integer_compute,
    product_macs,
    transposed_convolution_macs,
)

PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "EINSUM", "MATRIX_MULTIPLY")
_MOVES = {"IDENTITY", "SHUFFLE", "SQUEEZE", "UNSQUEEZE"}
_CLASSES = {"EINSUM": "IEinsumLayer", "MATRIX_MULTIPLY": "IMatrixMultiplyLayer"}


def describe(trt: Any, network: Any) -> dict[str, Any]:
    """What `build_engine.describe` says of a network, and `macs`: multiply-adds by the dtype that they are done in."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    producers = {layer.get_output(index).name: layer for layer in layers for index in range(layer.num_outputs)}
    macs: Counter[str] = Counter()
    for layer in layers:
        if layer.type.name in PRODUCTS:
            macs[_compute(layer, producers)] += _macs(trt, layer)
    return {**build_engine.describe(trt, network), "macs": dict(macs.most_common())}


def _compute(layer: Any, producers: dict[str, Any]) -> str:
    """int8 if both operands are dequantized from it; else what the layer gives, for the network is strongly typed.

    The kernel of a convolution that reads its weights from no other layer is no operand, and float.
    """
    operands = [layer.get_input(index) for index in range(min(2, layer.num_inputs))]
    stored = [_stored(operand, producers) for operand in operands]
    if len(stored) == 2 and all(stored):
        return integer_compute(*stored)
    return build_engine.dtype_name(layer.get_output(0).dtype)


def _stored(tensor: Any, producers: dict[str, Any]) -> str:
    """The dtype that a tensor is dequantized from; "" if it is not."""
    layer = producers.get(tensor.name)
    while layer is not None and layer.type.name in _MOVES:
        layer = producers.get(layer.get_input(0).name)
    if layer is None or layer.type.name != "DEQUANTIZE":
        return ""
    return build_engine.dtype_name(layer.get_input(0).dtype)


def _macs(trt: Any, layer: Any) -> int:
    kind, output = layer.type.name, _shape(layer.get_output(0))
    shapes = [_shape(layer.get_input(index)) for index in range(layer.num_inputs)]
    if "CONVOLUTION" in kind:
        weight = shapes[1] if len(shapes) > 1 else _kernel(trt, layer, shapes[0])
        transposed = kind == "DECONVOLUTION"
        return transposed_convolution_macs(shapes[0], weight) if transposed else convolution_macs(output, weight)
    layer.__class__ = getattr(trt, _CLASSES[kind])  # how the bindings cast to a subclass
    if kind == "EINSUM":
        return einsum_macs(layer.equation, shapes)
    turned = layer.op0 == trt.MatrixOperation.TRANSPOSE
    return product_macs(output, shapes[0][-2 if turned else -1])


def _kernel(trt: Any, layer: Any, data: Shape) -> Shape:
    """Shape of a kernel that the layer itself holds: [maps, channels / groups, sides], of a deconvolution turned."""
    layer.__class__ = getattr(trt, f"I{layer.type.name.title()}Layer")
    maps, groups, sides = layer.num_output_maps, layer.num_groups, tuple(layer.kernel_size_nd)
    if layer.type.name == "DECONVOLUTION":
        return (data[1], maps // groups, *sides)
    return (maps, data[1] // groups, *sides)


def _shape(tensor: Any) -> Shape:
    return tuple(tensor.shape)


if __name__ == "__main__":
    sys.exit(build_engine.main(describe=describe))
