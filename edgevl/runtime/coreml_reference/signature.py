"""The inputs, states and outputs of a function, from the program and from what the package says of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .interface import Description, Shape, TensorSpec, input_spec, output_spec
from .seam import InputError, unknown_name

Specs = tuple[TensorSpec, ...]


def read_inputs(function: Any, description: Description) -> tuple[Specs, Specs]:
    """Return the specs of the inputs and of the states of a function of a specification."""
    inputs, states = [], []
    for item in function.inputs:
        is_state = item.type.WhichOneof("type") == "stateType"
        tensor = (item.type.stateType.wrappedType if is_state else item.type).tensorType
        kinds = tensor.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number
        shape = tuple(map(_side, tensor.dimensions))
        (states if is_state else inputs).append(
            input_spec(item.name, kinds[tensor.dataType].name.lower(), shape, description)
        )
    return tuple(inputs), tuple(states)


def _side(dimension: Any) -> int | None:
    return dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else None


def bind(function: Any, specs: Specs, shapes: Mapping[str, Iterable[int]]) -> Specs:
    """Write the shapes that flexible inputs are bound to into a specification's function. Returns the new specs.

    Raises `InputError` for a name that is not known, or a shape that the package does not allow.
    """
    wanted = {name: tuple(shape) for name, shape in shapes.items()}
    known = {spec.name: spec for spec in specs}
    for name, shape in wanted.items():
        if name not in known:
            raise unknown_name("input", name, known)
        if not known[name].allows(shape):
            raise InputError(f'input "{name}" cannot have the shape {list(shape)}; allowed: {known[name]}')
    for item in function.inputs:
        if item.name in wanted:
            sides = _planes(known[item.name], wanted[item.name])
            for dimension, side in zip(item.type.tensorType.dimensions, sides):
                dimension.constant.size = side
    return tuple(
        replace(spec, shape=wanted[spec.name], flexible=None) if spec.name in wanted else spec for spec in specs
    )


def _planes(spec: TensorSpec, shape: Shape) -> Shape:
    """The shape of the program's tensor for an array of `shape`: pixels [N, H, W, C] become planes."""
    return (shape[0], shape[3], shape[1], shape[2]) if spec.color else shape


def read_outputs(function: Any, description: Description) -> tuple[Specs, list[Any]]:
    """Return the specs of a PyMIL function's outputs, and the classes of a classifier, strings or integers."""
    labels: list[Any] = []
    for variable in function.outputs:
        if _is_classified(variable):
            classes = variable.op.inputs["classes"].val
            labels = [label if isinstance(label, str) else int(label) for label in getattr(classes, "ls", classes)]
    return tuple(_output(variable, description) for variable in function.outputs), labels


def _output(variable: Any, description: Description) -> TensorSpec:
    from coremltools.converters.mil.mil import types

    if _is_classified(variable):
        return TensorSpec(variable.name, "dict" if types.is_dict(variable.sym_type) else "label", ())
    dtype = np.dtype(types.nptype_from_builtin(variable.dtype)).name
    shape = tuple(int(side) if isinstance(side, (int, np.integer)) else None for side in variable.shape)
    return output_spec(variable.name, dtype, shape, description)


def _is_classified(variable: Any) -> bool:
    return variable.op is not None and variable.op.op_type == "classify"
