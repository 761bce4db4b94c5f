"""Pull values through the sources of programs as tensors that take gradients: what a `Runner` does with arrays.

Shapes: B pictures, K texts of each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgevl.bundle.specs import InputSpec, PictureSource, ProgramSpec, TextSource, ValueSource
from edgevl.errors import InputError


class Pulling:
    """Values of programs for pictures with `texts` texts each. What depends on the picture alone is computed once for
    all of its texts.

    Raises `InputError` for a program that reads its own outputs: a sequence has no gradient here.
    """

    def __init__(self, programs: Sequence[ProgramSpec], texts: int):
        self.programs, self.texts = programs, texts
        self._makers = {spec.name: program for program in programs for spec in program.outputs}
        for spec in (spec for program in programs for spec in program.inputs):
            if not isinstance(spec.source, PictureSource | TextSource | ValueSource):
                raise InputError(f"a model that reads {spec.source.kind}s step by step cannot be trained here")
        self._of_texts = {program.name: self._reads_texts(program) for program in programs}

    def rows(self, program: ProgramSpec, pictures: int) -> int:
        """Return the samples of a program in a batch of B `pictures`: B, or B * K where it depends on a text."""
        return pictures * self.texts if self._of_texts[program.name] else pictures

    def values(self, calls: Mapping[str, Callable[..., Any]], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output of every program, by name.

        Args:
            calls: program -> what is called with its inputs, in order.
            leaves: input -> pictures [B, ...] or texts [B * K, ...].
        """
        found = dict[str, Tensor]()
        for program in self.programs:
            self._compute(program, calls, leaves, found)
        return found

    def _compute(self, program: ProgramSpec, calls: Any, leaves: Mapping[str, Tensor], found: dict[str, Tensor]):
        if program.outputs[0].name in found:
            return
        inputs = [self._input(program, spec, calls, leaves, found) for spec in program.inputs]
        outputs = calls[program.name](*inputs)
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        found |= {spec.name: value for spec, value in zip(program.outputs, outputs)}

    def _input(
        self, program: ProgramSpec, spec: InputSpec, calls: Any, leaves: Mapping[str, Tensor], found: dict[str, Tensor]
    ) -> Tensor:
        source, of_texts = spec.source, isinstance(spec.source, TextSource)
        if isinstance(source, ValueSource):
            maker = self._makers[source.name]
            self._compute(maker, calls, leaves, found)
            value, of_texts = found[source.name], self._of_texts[maker.name]
        else:
            value = leaves[spec.name].to(getattr(torch, spec.dtype))
        return value.repeat_interleave(self.texts, 0) if self._of_texts[program.name] and not of_texts else value

    def _reads_texts(self, program: ProgramSpec) -> bool:
        sources = [spec.source for spec in program.inputs]
        return any(
            isinstance(source, TextSource)
            or (isinstance(source, ValueSource) and self._reads_texts(self._makers[source.name]))
            for source in sources
        )


def leaves_of(programs: Sequence[ProgramSpec], image: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Return what each picture and each text of programs takes, where all take the same `image` and `ids`."""
    specs = [spec for program in programs for spec in program.inputs]
    pictures = {spec.name: image for spec in specs if isinstance(spec.source, PictureSource)}
    return pictures | {spec.name: ids for spec in specs if isinstance(spec.source, TextSource)}
