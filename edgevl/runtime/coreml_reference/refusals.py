"""What the reference executor does not run, found in the specification before any weight is read: one line each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevl.runtime.coreml_reference.ops import UnsupportedOp, operators

_CONTROL_FLOW = (
    "control flow does not run here: export the model so that one path remains (torch.export specializes branches), "
    "unroll the loop, or choose between two results with torch.where"
)
_LIST = "lists do not run here: write into a tensor of fixed size instead (torch.cat, slice_scatter)"
_STATE = "states do not run here: make it an input and an output of the model, or run the package on macOS"
_RANDOM = "random numbers cannot be reproduced: draw them outside and make them an input of the model"
_REASONS = {
    **dict.fromkeys(("cond", "while_loop"), _CONTROL_FLOW),
    **dict.fromkeys(("make_list", "list_length", "list_write", "list_read", "list_gather", "list_scatter"), _LIST),
    **dict.fromkeys(("read_state", "write_state", "coreml_update_state"), _STATE),
    **dict.fromkeys(("random_bernoulli", "random_categorical", "random_normal", "random_uniform"), _RANDOM),
    "non_zero": "the shape of its output depends on values: use a mask of fixed shape instead",
    "custom_layer": "its code is in an app, not in the file",
    "classify": "labels are strings: convert without classifier_config, and look the label up in the app",
}
_UNKNOWN = 'it is not in the table of operators; docs/coreml-reference.md, "Operators", shows how to add one'


@dataclass(frozen=True)
class Location:
    """Where an operator is in a package."""

    function: str
    index: int  # in the function's list of operators in the specification, constants included, from 0
    layer: str  # the operator's own name in the file: the converter derives it from the source model's layer

    def __str__(self) -> str:
        return f'function "{self.function}", operator {self.index}, layer "{self.layer}"'


def locate(spec: Any, function: str) -> dict[str, Location]:
    """Return the location of every operator of a function, by the name of each of its outputs."""
    return {
        output.name: Location(function, index, _layer(operation))
        for index, operation in enumerate(_operations(spec, function))
        for output in operation.outputs
    }


def check_supported(spec: Any, function: str, path: Path) -> None:
    """Raise `UnsupportedOp`, in one line that says where and what to do, for a program that cannot run here.

    Covers states, inputs of flexible shape, control flow, lists, random numbers and operators without a kernel.
    """
    for item in spec.mlProgram.functions[function].inputs:
        kind = item.type.WhichOneof("type")
        if kind == "stateType":
            raise UnsupportedOp(f'{path}: the program keeps a state, "{item.name}", between two calls; {_STATE}')
        if kind == "tensorType" and any(_is_flexible(dimension) for dimension in item.type.tensorType.dimensions):
            raise UnsupportedOp(
                f'{path}: input "{item.name}" has a flexible shape, {_shape(item.type.tensorType)}, and only static '
                "shapes run here: convert the model with one fixed shape for each input (coremltools.TensorType)"
            )
    refused = list(_refused(spec, function))
    if refused:
        more = f" ({len(refused) - 1} more operators are not supported either)" if len(refused) > 1 else ""
        raise UnsupportedOp(f"{path}: {refused[0]}{more}")


def _refused(spec: Any, function: str) -> Iterator[str]:
    """One line for each operator that has no kernel."""
    known = operators()
    for index, operation in enumerate(_operations(spec, function)):
        kind = operation.type
        if kind in known or kind == "const" or kind.startswith("constexpr_"):
            continue
        output = operation.outputs[0].name if operation.outputs else "(none)"
        where = Location(function, index, _layer(operation))
        yield f'operator "{kind}" with output "{output}" ({where}) is not supported: {_REASONS.get(kind, _UNKNOWN)}'


def _operations(spec: Any, function: str) -> Any:
    definition = spec.mlProgram.functions[function]
    return definition.block_specializations[definition.opset].operations


def _layer(operation: Any) -> str:
    """The `name` attribute, where the file has one."""
    if "name" not in operation.attributes:
        return operation.outputs[0].name if operation.outputs else ""
    return operation.attributes["name"].immediateValue.tensor.strings.values[0]


def _is_flexible(dimension: Any) -> bool:
    return dimension.WhichOneof("dimension") != "constant"


def _shape(tensor: Any) -> str:
    sides = ["?" if _is_flexible(dimension) else str(dimension.constant.size) for dimension in tensor.dimensions]
    return f"[{', '.join(sides)}]"
