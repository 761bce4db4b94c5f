"""Growth that changes no answer: a deeper model that starts as the shallower one.

Net2Net's deeper network (Chen et al. 2016, arXiv 1511.05641) for pre-norm blocks, as LLaMA Pro does it (Wu et al.
2024, arXiv 2401.02415): a new block is a copy of its neighbor whose two residual branches end in zeros, so that it adds
nothing until it is trained.
"""

import torch
from torch import nn

from edgevl.errors import InputError
from edgevl.models import VqaModel, build_model
from edgevl.models.fusion import Block


def grow(model: VqaModel, depth: int) -> VqaModel:
    """A copy of `model` with `depth` fusion blocks that gives the same logits, bit by bit.

    Raises `InputError` unless `depth` is larger than the model's.
    """
    config = model.config
    if depth <= config.depth:
        raise InputError(f"grow={depth}: the model has {config.depth} blocks already; choose more")
    grown = build_model(config.replace(name=f"{config.name}_depth{depth}", depth=depth))
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("core.fusion.blocks.")}
    grown.load_state_dict(own, strict=False)
    origins = block_origins(config.depth, depth)
    for index, origin in enumerate(origins):
        block = grown.core.fusion.blocks[index]
        block.load_state_dict(model.core.fusion.blocks[origin].state_dict())
        if origin in origins[index + 1 :]:  # the last of its kind is the original
            silence(block)
    return grown


def block_origins(old: int, new: int) -> list[int]:
    """Which old block each new one is copied from, copies spread evenly in front of their originals.

    The last block stays the last: it alone computes the states that are read out and no others.
    """
    added = new - old
    return sorted([*range(old), *(index * old // added for index in range(added))])


def silence(block: nn.Module) -> None:
    """Let both residual branches end in zeros. Their last layers still get gradients: what they read is not zero."""
    assert isinstance(block, Block)
    for layer in (block.attention.out, block.mlp[2]):
        assert isinstance(layer, nn.Linear)
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.zero_()
