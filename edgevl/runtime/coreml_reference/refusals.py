"""What the reference executor does not run, found in the specification before any weight is read: one line each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .node import UnsupportedOp
from .ops import operators

CONTROL_FLOW = ("cond", "while_loop")
_LIST = "lists do not run here: write into a tensor of fixed size instead (torch.cat, slice_scatter)"
_RANDOM = "random numbers cannot be reproduced: draw them outside and make them an input of the model"
_REASONS = {
    **dict.fromkeys(("make_list", "list_length", "list_write", "list_read", "list_gather", "list_scatter"), _LIST),
    **dict.fromkeys(("random_bernoulli", "random_categorical", "random_normal", "random_uniform"), _RANDOM),
    "custom_layer": "its code is in an app, not in the file",
}
_UNKNOWN = 'it is not in the table of operators; docs/coreml-reference.md, "Operators", shows how to add one'


@dataclass(frozen=True)
class Location:
    """Where an operator is in a package."""

    function: str
    index: int  # in the function's list of operators in the specification, constants included, from 0
    layer: str  # the operator's own name in the file: the converter derives it from the source model's layer
    inside: tuple[int, ...] = ()  # for an operator of an inner block: block, operator, block, operator, ...

    def __str__(self) -> str:
        inner = "".join(f", {'operator' if at % 2 else 'block'} {number}" for at, number in enumerate(self.inside))
        return f'function "{self.function}", operator {self.index}{inner}, layer "{self.layer}"'

    @property
    def order(self) -> tuple[int, ...]:
        """What sorts locations in the order of the file."""
        return (self.index, *self.inside)


@dataclass
class Places:
    """Where the operators of a block are, for an operator of coremltools' copy of the program."""

    named: dict[str, Location] = field(default_factory=dict)  # by the name of each output
    writes: list[Location] = field(default_factory=list)  # of `write_state`, which has no output, in order
    inner: dict[str, list["Places"]] = field(default_factory=dict)  # of the blocks, by the name of each output

    def of(self, op: Any) -> Location:
        """Where an operator is."""
        if op.op_type == "coreml_update_state" and self.writes:  # what the loader makes of `write_state`
            return self.writes.pop(0)
        name = op.outputs[0].name if op.outputs else ""
        return self.named.get(name, Location("?", -1, name))

    def inside(self, op: Any) -> list["Places"]:
        """Where the operators of an operator's blocks are."""
        return self.inner.get(op.outputs[0].name if op.outputs else "", []) or [Places() for _ in op.blocks]


def locate(spec: Any, function: str) -> Places:
    """Return the places of a function's operators."""
    return _places(_block(spec, function), function, ())


def _places(block: Any, function: str, path: tuple[int, ...]) -> Places:
    places = Places()
    for index, operation in enumerate(block.operations):
        where = _location(function, (*path, index), operation)
        inner = [_places(part, function, (*path, index, at)) for at, part in enumerate(operation.blocks)]
        if operation.type == "write_state":
            places.writes.append(where)
        for output in operation.outputs:
            places.named[output.name] = where
            places.inner[output.name] = inner
    return places


def _location(function: str, path: tuple[int, ...], operation: Any) -> Location:
    return Location(function, path[0], _layer(operation), path[1:])


def check_supported(spec: Any, function: str, path: Path) -> None:
    """Raise `UnsupportedOp`, in one line that says where and what to do, for operators that cannot run here."""
    refused = list(_refused(_block(spec, function), function, ()))
    if refused:
        more = f" ({len(refused) - 1} more operators are not supported either)" if len(refused) > 1 else ""
        raise UnsupportedOp(f"{path}: {refused[0]}{more}")


def _refused(block: Any, function: str, path: tuple[int, ...]) -> Iterator[str]:
    """One line for each operator that has no kernel."""
    known = operators()
    for index, operation in enumerate(block.operations):
        kind = operation.type
        for at, part in enumerate(operation.blocks):
            yield from _refused(part, function, (*path, index, at))
        if kind in known or kind in ("const", "write_state", *CONTROL_FLOW) or kind.startswith("constexpr_"):
            continue
        output = operation.outputs[0].name if operation.outputs else "(none)"
        where = _location(function, (*path, index), operation)
        yield f'operator "{kind}" with output "{output}" ({where}) is not supported: {_REASONS.get(kind, _UNKNOWN)}'


def count_operators(spec: Any, function: str) -> int:
    """Return how many operators a function has, constants included."""
    return _count(_block(spec, function))


def _count(block: Any) -> int:
    return sum(1 + sum(_count(part) for part in operation.blocks) for operation in block.operations)


def _block(spec: Any, function: str) -> Any:
    definition = spec.mlProgram.functions[function]
    return definition.block_specializations[definition.opset]


def _layer(operation: Any) -> str:
    """The `name` attribute, where the file has one."""
    if "name" in operation.attributes:
        values = operation.attributes["name"].immediateValue.tensor.strings.values
        if len(values):
            return values[0]
    return operation.outputs[0].name if operation.outputs else ""
