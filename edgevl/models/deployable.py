"""A Deployable as plain data, which a family fills in, and short ways to write what its programs take and give."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevl.bundle.specs import (
    ImageProcessing,
    InputSpec,
    OutputSpec,
    PictureSource,
    TextProcessing,
    TextSource,
    ValueSource,
)
from edgevl.contracts import Deployable, Program, TextCodec
from edgevl.errors import unknown_name

if TYPE_CHECKING:
    from edgevl.domain.judge import Domain

NOT_STATED = "not stated"  # a license that nobody named


@dataclasses.dataclass(frozen=True)
class DeployableModel:
    """See `edgevl.contracts.Deployable`. `cut` makes the programs of a layout."""

    name: str
    task: str
    sha256: str
    images: Mapping[str, ImageProcessing]
    texts: Mapping[str, TextCodec]
    decoding: Mapping[str, Any]
    layouts: Sequence[str]
    cut: Callable[[str], Sequence[Program]]
    labels: Sequence[str] | None = None
    license: str = NOT_STATED
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    domain: "Domain | None" = None

    def programs(self, layout: str) -> Sequence[Program]:
        """Return the programs of a layout. Raises `InputError` for an unknown one."""
        if layout not in self.layouts:
            raise unknown_name("layout", layout, self.layouts)
        return self.cut(layout)


def with_programs(model: Deployable, cut: Callable[[str], Sequence[Program]]) -> DeployableModel:
    """Return a model that is cut into other programs; everything else is as it was."""
    names = [field.name for field in dataclasses.fields(DeployableModel) if field.name != "cut"]
    return DeployableModel(**{name: getattr(model, name) for name in names}, cut=cut)


def with_scaled(model: Deployable, names: Collection[str]) -> DeployableModel:
    """Return a model whose image processings of these names, and no others, may decode a JPEG at a smaller scale."""
    images = {
        name: spec.model_copy(update={"decode": "scaled" if name in names else "whole"})
        for name, spec in model.images.items()
    }
    return dataclasses.replace(with_programs(model, model.programs), images=images)


def picture_input(name: str, size: int, index: int = 0, processing: str = "main") -> InputSpec:
    """Return float32 [1, 3, S, S] in 0..255: the `index`-th picture of a query."""
    source = PictureSource(index=index, processing=processing)
    return InputSpec(name=name, dtype="float32", shape=(1, 3, size, size), layout="NCHW", range=(0, 255), source=source)


def text_input(name: str, text: TextProcessing, index: int = 0, processing: str = "main") -> InputSpec:
    """Return int32 [1, T]: the token ids of the `index`-th text of a query."""
    source = TextSource(index=index, processing=processing)
    limits = (0, text.vocab_size - 1)
    return InputSpec(name=name, dtype="int32", shape=(1, text.length), layout="NT", range=limits, source=source)


def value_input(
    name: str, value: OutputSpec, pictures: tuple[int, ...] | None = None, texts: tuple[int, ...] | None = None
) -> InputSpec:
    """Return an input that is an output of another program, for these pictures and texts of the query."""
    source = ValueSource(name=value.name, pictures=pictures, texts=texts)
    return InputSpec(name=name, dtype=value.dtype, shape=value.shape, layout=value.layout, source=source)


def float_output(name: str, shape: tuple[int, ...], layout: str) -> OutputSpec:
    """Return a float32 output; `shape` begins with a batch of 1."""
    return OutputSpec(name=name, dtype="float32", shape=shape, layout=layout)
