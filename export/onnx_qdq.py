"""Static int8 for ONNX Runtime: what its int8 kernels want of a graph that PT2E has given Q/DQ.

- A weight is stored as the product reads it: no Transpose between the `DequantizeLinear` and the product.
- The bias of a product is int32 in steps of (scale of the input) x (scale of the channel): with a float bias ONNX
  Runtime leaves a Gemm in float.
- The picture is not cast, shifted and rounded: uint8 pixels with a zero point are what those steps would make of it.
- Rows of embedding tables are int8, as in `w8`.
- An average pool in front of a 1 x 1 convolution is a part of it: a convolution with the pool's windows and strides.

Each is a pass that can be left out (`edgevl.export.passes`).
"""

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevl.export.onnx_weights import quantize_tables
from edgevl.export.passes import graph_pass

if TYPE_CHECKING:
    import onnx

_INT32 = 2**31 - 1
_FOLDED_AREA = 4  # of a pool's window: the convolution's weights and multiply-adds grow by it


def to_static_int8(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return `model`, which holds Q/DQ nodes, as ONNX Runtime runs it in int8."""
    graph = _Graph(model)
    graph.keep_pixels().fold_pools().transpose_weights().quantize_biases()
    return quantize_tables(graph.rewritten())


def to_symmetric_int8(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return `model`, which holds Q/DQ nodes with zero points of 0, as TensorRT takes it.

    int8 constants feed a `DequantizeLinear` and nothing else, biases stay float, and so does the picture up to its Q.
    """
    graph = _Graph(model)
    graph.transpose_weights()
    return quantize_tables(graph.rewritten(), rows=False)


class _Graph:
    """The graph of a copy of `model`, with its constants and producers at hand."""

    def __init__(self, model: "onnx.ModelProto"):
        import onnx

        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.nodes: list[Any] = list(self.model.graph.node)
        self.constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output}
        self.shapes = {
            value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.value_info)
        }

    def readers(self, name: str) -> list[Any]:
        return [node for node in self.nodes if name in node.input]

    def dequantized(self, name: str) -> Any | None:
        """The `DequantizeLinear` that makes a value, or None."""
        node = self.producers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    @graph_pass("keep-pixels", "onnx", "fast", "gives the first int8 convolution the picture's bytes as they are")
    def keep_pixels(self) -> "_Graph":
        """Cast, Transpose, Sub(c) and QuantizeLinear in steps of 1 give back the picture, with the zero point c."""
        for rounded in [node for node in self.nodes if node.op_type == "QuantizeLinear"]:
            chain = [self.producers.get(rounded.input[0])]
            for operator in ("Sub", "Transpose", "Cast"):
                if chain[-1] is None or chain[-1].op_type != operator:
                    break
                chain.append(self.producers.get(chain[-1].input[0]))
            else:
                self._keep_pixels(rounded, *chain[:3])
        return self

    def _keep_pixels(self, rounded: Any, shift: Any, transpose: Any, cast: Any) -> None:
        middle = self.constants[shift.input[1]]
        if self.constants[rounded.input[1]] != 1.0 or not 0 <= middle <= 255:
            return
        if self.constants[rounded.input[2]].dtype != np.uint8:  # the convolution must not mix int8 and uint8
            return
        self.constants["pixel_zero"] = np.array(middle, np.uint8)
        self._replace(
            rounded, _make("Transpose", [cast.input[0]], rounded.output[0], perm=_attribute(transpose, "perm").ints)
        )
        for reader in self.readers(rounded.output[0]):
            reader.input[2] = "pixel_zero"

    @graph_pass("fold-pools", "onnx", "fast", "makes an average pool a part of the 1 x 1 int8 convolution behind it")
    def fold_pools(self) -> "_Graph":
        """Sums of a window times w / area are what a convolution of that window computes, without a rounding between.

        ONNX Runtime's int8 average pool takes as long as the convolution, and the result of a pool was rounded to int8.
        """
        for pool in [node for node in self.nodes if node.op_type == "AveragePool"]:
            data, window = self.dequantized(pool.input[0]), self._window(pool)
            if data is None or window is None:
                continue
            for rounded in self.readers(pool.output[0]):
                for again in self.readers(rounded.output[0]) if rounded.op_type == "QuantizeLinear" else ():
                    for convolution in self.readers(again.output[0]):
                        self._fold_pool(data.output[0], window, convolution)
        return self

    def _window(self, pool: Any) -> tuple[list[int], list[int]] | None:
        """Sides and strides of a small pool that reads nothing beyond its input."""
        sides, strides = (list(_attribute(pool, name).ints) for name in ("kernel_shape", "strides"))
        shape = self.shapes.get(pool.input[0], [])[2:]
        fits = len(shape) == len(sides) and all((n - k) % s == 0 for n, k, s in zip(shape, sides, strides))
        return (sides, strides) if fits and not any(_ints(pool, "pads")) and prod(sides) <= _FOLDED_AREA else None

    def _fold_pool(self, data: str, window: tuple[list[int], list[int]], convolution: Any) -> None:
        weight = self.dequantized(convolution.input[1]) if convolution.op_type == "Conv" else None
        if weight is None or weight.input[0] not in self.constants or prod(_ints(convolution, "strides")) != 1:
            return
        steps = self.constants[weight.input[0]]
        if prod(steps.shape[2:]) != 1 or any(_ints(convolution, "pads")) or _attribute(convolution, "group").i != 1:
            return
        sides, strides = window
        own = f"{convolution.output[0]}.pooled"
        self.constants |= {
            f"{own}.int8": np.broadcast_to(steps, (*steps.shape[:2], *sides)).copy(),
            f"{own}.scale": self.constants[weight.input[1]] / np.float32(prod(sides)),
        }
        new = _make("DequantizeLinear", [f"{own}.int8", f"{own}.scale", *weight.input[2:]], own, axis=0)
        self._insert_before(convolution, new)
        convolution.input[0], convolution.input[1] = data, own
        _attribute(convolution, "kernel_shape").ints[:] = sides
        _attribute(convolution, "strides").ints[:] = strides

    @graph_pass("stored-weights", "onnx", "fast", "stores an int8 weight as the product reads it, without a Transpose")
    def transpose_weights(self) -> "_Graph":
        for node in [node for node in self.nodes if node.op_type == "Transpose"]:
            source = self.dequantized(node.input[0])
            if source is None or source.input[0] not in self.constants:
                continue
            permutation = list(_attribute(node, "perm").ints)
            stored = f"{node.output[0]}.int8"
            self.constants[stored] = np.ascontiguousarray(self.constants[source.input[0]].transpose(permutation))
            inputs, axis = [stored, *source.input[1:]], permutation.index(_attribute(source, "axis").i)
            self._replace(node, _make("DequantizeLinear", inputs, node.output[0], axis=axis))
        return self

    @graph_pass("int32-biases", "onnx", "fast", "stores biases in int32, without which a product stays in float")
    def quantize_biases(self) -> "_Graph":
        for product, place, bias in list(self._biases()):
            data, weight = self.dequantized(product.input[0]), self.dequantized(product.input[1])
            if data is None or weight is None or weight.input[0] not in self.constants:
                continue
            scale = self.constants[data.input[1]] * self.constants[weight.input[1]].reshape(-1)
            steps = np.rint(self.constants[bias] / scale.astype(np.float64)).clip(-_INT32, _INT32)
            own = f"{product.output[0]}.bias"  # equal biases are one constant, but each product has its own scales
            names = [f"{own}.int32", f"{own}.scale"]
            self.constants |= {names[0]: steps.astype(np.int32), names[1]: scale.astype(np.float32)}
            place.input[list(place.input).index(bias)] = own
            self._insert_before(product, _make("DequantizeLinear", names, own, axis=0))
        return self

    def _biases(self) -> Iterator[tuple[Any, Any, str]]:
        """Each product with the node that adds its bias, itself or an Add behind it, and the name of the bias."""
        for node in self.nodes:
            if node.op_type in ("Conv", "Gemm") and len(node.input) == 3 and node.input[2] in self.constants:
                yield node, node, node.input[2]
            if node.op_type == "MatMul":
                for add in self.readers(node.output[0]):
                    bias = next((name for name in add.input if name in self.constants), None)
                    if add.op_type == "Add" and bias and self.constants[bias].ndim == 1:
                        yield node, add, bias

    def _insert_before(self, node: Any, new: Any) -> None:
        self.nodes.insert(self.nodes.index(node), new)
        self.producers[new.output[0]] = new

    def _replace(self, node: Any, new: Any) -> None:
        self.nodes[self.nodes.index(node)] = new
        self.producers[new.output[0]] = new

    def rewritten(self) -> "onnx.ModelProto":
        """The model with these nodes and constants, without those that nothing reads any more."""
        from onnx import numpy_helper

        graph: Any = self.model.graph
        used, nodes = {value.name for value in graph.output}, []
        for node in reversed(self.nodes):
            if any(name in used for name in node.output):
                used.update(node.input)
                nodes.insert(0, node)
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in used
        )
        return self.model


def _make(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    import onnx

    return onnx.helper.make_node(operator, inputs, [output], name=f"{operator}_{output}", **attributes)


def _ints(node: Any, name: str) -> list[int]:
    """The list of integers `name` of a node; empty where it has none."""
    return [number for attribute in node.attribute if attribute.name == name for number in attribute.ints]


def _attribute(node: Any, name: str) -> Any:
    return next(attribute for attribute in node.attribute if attribute.name == name)
