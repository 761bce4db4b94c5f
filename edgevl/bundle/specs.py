"""What a program takes and gives, and where each input comes from: the part of a manifest that runs a model.

All sources together are the order of calls. Nothing else states it, so any reader that evaluates them runs any model.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgevl.apps.jetson.interface import edge_problem, program_problems
from edgevl.bundle.fields import DType, Name, Part, Precision, Real, RelativePath

Side = Annotated[int, Field(ge=1, le=2**20)]
Index = Annotated[int, Field(ge=0, le=63)]  # of a picture or a text of a query
Indices = Annotated[tuple[Index, ...], Field(max_length=64)]


class PictureSource(Part):
    """The `index`-th picture of the query, through the image processing `processing`."""

    kind: Literal["picture"] = "picture"
    index: Index = 0
    processing: Name = "main"


class TextSource(Part):
    """The `index`-th text of the query through the text processing `processing`: its token ids, or their mask.

    The mask is 1 for a token and 0 for padding.
    """

    kind: Literal["text"] = "text"
    index: Index = 0
    processing: Name = "main"
    part: Literal["ids", "mask"] = "ids"


class ValueSource(Part):
    """The output `name` of another program, computed for these pictures and texts of the query; null means all.

    `pictures: [1]` makes the second picture of the query the only one, with the index 0, of the other program's query.
    """

    kind: Literal["value"] = "value"
    name: Name
    pictures: Indices | None = None
    texts: Indices | None = None


class StateSource(Part):
    """The output `name` of the same program in the step before; in the first step the value `start`, or zeros."""

    kind: Literal["state"] = "state"
    name: Name
    start: Name | None = None


class TokenSource(Part):
    """The token that was chosen last; in the first step the one that the decoding starts with."""

    kind: Literal["token"] = "token"


class StepSource(Part):
    """The number of the step, from 0."""

    kind: Literal["step"] = "step"


Source = Annotated[
    PictureSource | TextSource | ValueSource | StateSource | TokenSource | StepSource, Field(discriminator="kind")
]


class OutputSpec(Part):
    """A tensor by name. The first side is the batch."""

    name: Name  # of an output: unique in a bundle, since values are called by it
    dtype: DType
    shape: Annotated[tuple[Side, ...], Field(min_length=1, max_length=6)]
    layout: Annotated[str, Field(pattern=r"^[A-Z]{1,6}$")]  # a letter for each side
    range: tuple[Real, Real] | None = None

    @model_validator(mode="after")
    def _layout_fits(self) -> "OutputSpec":
        if len(self.layout) != len(self.shape):
            raise ValueError(f'layout "{self.layout}" does not fit shape {list(self.shape)}')
        return self

    def batched(self, batch: int) -> Self:
        """Return the same tensor with `batch` as its first side."""
        return self.model_copy(update={"shape": (batch, *self.shape[1:])})

    def __str__(self) -> str:
        limits = f", {self.range[0]:g} to {self.range[1]:g}" if self.range else ""
        return f"{self.name} {self.dtype} {list(self.shape)} {self.layout}{limits}"


class InputSpec(OutputSpec):
    """An input and where it comes from. `kind` is `image` where the platform passes its own picture type (Core ML)."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["tensor", "image"] = "tensor"
    source: Source = Field(validation_alias="from", serialization_alias="from")


class ProgramSpec(Part):
    """One program: what it takes and gives, in order."""

    name: Name
    inputs: Annotated[tuple[InputSpec, ...], Field(min_length=1, max_length=64)]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1, max_length=64)]

    @property
    def batch(self) -> int:
        """Samples of one run."""
        return self.inputs[0].shape[0]

    @model_validator(mode="after")
    def _consistent(self) -> "ProgramSpec":
        for problem in program_problems(self.to_json()):
            raise ValueError(problem)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the program as a manifest writes it down."""
        return self.model_dump(mode="json", by_alias=True)


class ArtifactSpec(ProgramSpec):
    """A program as a bundle holds it: its file or folder, and its own precision."""

    artifact: RelativePath
    precision: Precision


class ImageProcessing(Part):
    """How a picture becomes uint8 [S, S, 3]. docs/bundle.md has the arithmetic."""

    size: Annotated[int, Field(ge=1, le=4096)]  # S
    orientation: Literal["exif"] = "exif"
    color: Literal["RGB"] = "RGB"
    background: Literal["white"] = "white"  # what is behind transparency
    # squash: to S x S. shortest-edge: the short side becomes `shortest_edge`, then the central S x S are cut out.
    # letterbox: the long side becomes S, and gray bars fill the rest.
    geometry: Literal["squash", "shortest-edge", "letterbox"] = "squash"
    shortest_edge: Annotated[int, Field(ge=1, le=8192)] | None = None  # of the geometry shortest-edge; null: S
    kernel: Literal["triangle", "cubic"] = "triangle"
    antialias: Literal[True] = True
    passes: Literal["horizontal-vertical"] = "horizontal-vertical"
    rounding: Literal["uint8-per-pass"] = "uint8-per-pass"
    # whole: every pixel. scaled: a JPEG may be decoded at 1/2, 1/4 or 1/8, the smallest that covers its resized sides.
    decode: Literal["whole", "scaled"] = "whole"

    @model_serializer(mode="wrap")
    def _without_the_usual(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `decode` where it says nothing: readers from before there was a choice take no such field."""
        values = handler(self)
        if values["decode"] == "whole":
            del values["decode"]
        return values

    @model_validator(mode="after")
    def _edge_fits(self) -> "ImageProcessing":
        problem = edge_problem(self.model_dump())
        if problem:
            raise ValueError(problem)
        return self


class TextProcessing(Part):
    """How a text becomes int32 [T]: start, pieces, stop, padding."""

    kind: Literal["wordpiece", "byte-bpe", "unigram"]
    file: RelativePath
    length: Annotated[int, Field(ge=2, le=4096)]  # T
    vocab_size: Annotated[int, Field(ge=1, le=2**22)]
    pad_id: Annotated[int, Field(ge=0, le=2**22)] = 0
    start_id: Annotated[int, Field(ge=0, le=2**22)] | None
    stop_id: Annotated[int, Field(ge=0, le=2**22)] | None
    empty: Literal["refuse", "allow"] = "refuse"  # a text without a piece

    @property
    def room(self) -> int:
        """Pieces of a text that fit beside the special tokens."""
        return self.length - sum(token is not None for token in (self.start_id, self.stop_id))
