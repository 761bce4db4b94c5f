"""Seeded damage to a saved ML Program's specification: what a broken converter, or an attacker, might write."""

import random
from collections.abc import Callable
from typing import Any

Rng = random.Random
INTS = [-(2**31), -100, -1, 0, 1, 2, 3, 7, 1000, 2**20, 2**31 - 1]
FLOATS = [0.0, -1.0, 1e-30, 1e30, float("inf"), float("nan"), 0.5]
WORDS = ["", "DEFAULT", "same", "valid", "custom", "add", "fp16", "int32", "x" * 50, "NEAREST_NEIGHBOR", "reverse"]


def mutate(spec: Any, rng: Rng) -> str:
    """Damage one to three things in the first function. Returns what was done, in words."""
    function = next(iter(spec.mlProgram.functions.values()))
    operations = function.block_specializations[function.opset].operations
    done = []
    for _ in range(rng.randint(1, 3)):
        change = rng.choice(CHANGES)
        done.append(f"{change.__name__}: {change(operations, function, rng)}")
    return "; ".join(done)


def _value(operations: Any, function: Any, rng: Rng) -> str:
    """Another value for a constant."""
    constants = [op for op in operations if op.type == "const" and "val" in op.attributes]
    if not constants:
        return "nothing"
    op = rng.choice(constants)
    tensor = op.attributes["val"].immediateValue.tensor
    kind = tensor.WhichOneof("value")
    if kind == "ints":
        _replace(tensor.ints.values, rng, lambda: rng.choice(INTS))
    elif kind == "floats":
        _replace(tensor.floats.values, rng, lambda: rng.choice(FLOATS))
    elif kind == "bools":
        _replace(tensor.bools.values, rng, lambda: rng.random() < 0.5)
    elif kind == "strings":
        _replace(tensor.strings.values, rng, lambda: rng.choice(WORDS))
    elif kind == "bytes":
        tensor.bytes.values = rng.randbytes(rng.choice([0, 1, len(tensor.bytes.values)]))
    return f"{op.outputs[0].name if op.outputs else '?'} ({kind})"


def _replace(values: Any, rng: Rng, draw: Callable[[], Any]) -> None:
    """Change one entry, or the number of entries."""
    if len(values) and rng.random() < 0.8:
        values[rng.randrange(len(values))] = draw()
    elif len(values) and rng.random() < 0.5:
        del values[-1]
    else:
        values.append(draw())


def _constant_shape(operations: Any, function: Any, rng: Rng) -> str:
    """Another shape or dtype for a constant, declared in both places."""
    constants = [op for op in operations if op.type == "const" and "val" in op.attributes and op.outputs]
    if not constants:
        return "nothing"
    op = rng.choice(constants)
    words, seed = [], rng.random()
    for kind in (op.attributes["val"].type, op.outputs[0].type):
        words.append(_damage_type(kind.tensorType, Rng(seed)))
    return f"{op.outputs[0].name} {words[0]}"


def _declared(operations: Any, function: Any, rng: Rng) -> str:
    """Another declared type of a result."""
    op = rng.choice(operations)
    return f"{op.type} {_damage_type(op.outputs[0].type.tensorType, rng)}" if op.outputs else "nothing"


def _damage_type(tensor: Any, rng: Rng) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        tensor.dataType = rng.choice([0, 1, 2, 10, 11, 12, 21, 22, 23, 31, 33, 99])
    elif kind == 1 and len(tensor.dimensions):
        tensor.dimensions[rng.randrange(len(tensor.dimensions))].constant.size = rng.choice([0, 1, 2, 5, 2**31, 2**62])
    elif kind == 2:
        tensor.dimensions.add().constant.size = rng.choice([1, 3])
        tensor.rank += 1
    else:
        tensor.rank = rng.choice([-1, 0, 1, 9])
    return f"type {kind}"


def _drop_input(operations: Any, function: Any, rng: Rng) -> str:
    candidates = [op for op in operations if len(op.inputs)]
    if not candidates:
        return "nothing"
    op = rng.choice(candidates)
    name = rng.choice(sorted(op.inputs))
    del op.inputs[name]
    return f"{op.type}.{name}"


def _rebind(operations: Any, function: Any, rng: Rng) -> str:
    """Let an input read another variable, one that does not exist, or itself."""
    candidates = [op for op in operations if len(op.inputs)]
    if not candidates:
        return "nothing"
    op = rng.choice(candidates)
    name = rng.choice(sorted(op.inputs))
    names = [output.name for other in operations for output in other.outputs] + ["nobody"]
    names += [item.name for item in function.inputs]
    for binding in op.inputs[name].arguments:
        binding.name = rng.choice(names)
    return f"{op.type}.{name}"


def _rename_input(operations: Any, function: Any, rng: Rng) -> str:
    candidates = [op for op in operations if len(op.inputs)]
    if not candidates:
        return "nothing"
    op = rng.choice(candidates)
    name = rng.choice(sorted(op.inputs))
    op.inputs[rng.choice(["x", "y", "axis", "shape", "strange"])].CopyFrom(op.inputs[name])
    del op.inputs[name]
    return f"{op.type}.{name}"


def _another_operator(operations: Any, function: Any, rng: Rng) -> str:
    op, other = rng.choice(operations), rng.choice(operations)
    op.type = rng.choice([other.type, "while_loop", "cond", "classify", "read_state", "write_state", "tile", "reshape"])
    return op.type


def _outputs(operations: Any, function: Any, rng: Rng) -> str:
    op = rng.choice(operations)
    if len(op.outputs) and rng.random() < 0.5:
        del op.outputs[-1]
    else:
        op.outputs.add().name = "added"
    return op.type


def _drop_operator(operations: Any, function: Any, rng: Rng) -> str:
    index = rng.randrange(len(operations))
    kind = operations[index].type
    if len(operations) > 1:
        del operations[index]
    return kind


def _attributes(operations: Any, function: Any, rng: Rng) -> str:
    op = rng.choice(operations)
    for name in sorted(op.attributes):
        if rng.random() < 0.5:
            del op.attributes[name]
        else:
            op.attributes[name].ClearField("immediateValue")
    return op.type


CHANGES = [
    *([_value] * 6),
    *([_declared, _drop_input, _rebind] * 2),
    *(_constant_shape, _rename_input, _another_operator, _outputs, _drop_operator, _attributes),
]
