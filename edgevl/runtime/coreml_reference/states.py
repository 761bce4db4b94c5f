"""States: tensors that a program keeps from one prediction to the next (iOS18), such as a key-value cache.

The executor keeps a state's tensor in a slot. Tensors are never changed in place, so reading is passing on.
"""

from torch import Tensor

from .ops import Kernel, Node, mil_op


@mil_op("read_state", operands=("input",), exact=True)
def _read_state(node: Node) -> Kernel:
    return lambda state: state


@mil_op("coreml_update_state", operands=("value",), exact=True)
def _update_state(node: Node) -> Kernel:
    """The new value is the result, and, for the executor, what is written into the state's slot."""

    def update_state(value: Tensor) -> tuple[Tensor, Tensor]:
        return value, value

    return update_state
