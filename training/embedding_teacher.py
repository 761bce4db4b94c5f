"""A teacher that finds pictures, whoever made it: what it reads of a sample, and the embeddings that it gives.

Shapes: B pictures, K captions of each, T text tokens, S side, E channels of an embedding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgevl.bundle.specs import PictureSource
from edgevl.contracts import Deployable, Query
from edgevl.decodings import decoding_of
from edgevl.decodings.rank import Rank
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError
from edgevl.models.dual_encoder import PICTURES, TEXTS
from edgevl.models.pulling import Pulling
from edgevl.runtime.eager_session import as_taken
from edgevl.verify.measure import side_of

_KEY = "teacher/"  # what its inputs begin with in a batch


class Teacher:
    """A frozen model. Its pictures and words go through its own processings, which may differ from the student's.

    Raises `InputError` for a model whose answers are no embeddings.
    """

    def __init__(self, model: Deployable, texts: int):
        decoding = decoding_of(model)
        if not isinstance(decoding, Rank):
            raise InputError(
                f"the teacher {model.name} is for {model.task}, and a dual encoder learns to find pictures"
            )
        self.fields = decoding.fields
        programs = model.programs(model.layouts[0])
        self.side = side_of(model)
        self.specs = [program.spec for program in programs]
        self._modules = [program.module.eval().requires_grad_(False) for program in programs]
        self._calls = {program.name: getattr(program.module, program.method) for program in programs}
        self._pulling = Pulling(self.specs, texts)
        self._reader = Runner(self.specs, {}, model.images, model.texts, remember=0)

    @property
    def embedding(self) -> int:
        """E."""
        outputs = [each for spec in self.specs for each in spec.outputs]
        return next(each.shape[-1] for each in outputs if each.name == self.fields.picture)

    def read(self, picture: Any, texts: Sequence[str], mirrored: bool) -> dict[str, np.ndarray]:
        """Return what its programs take: a picture uint8 [S, S, 3], texts [K, T]."""
        shown = self._reader.read(Query((picture,)), "picture")
        said = [self._reader.read(Query((), (text,)), "text") for text in texts]
        found = {name: np.ascontiguousarray(array[:, ::-1] if mirrored else array) for name, array in shown.items()}
        found |= {name: np.stack([each[name] for each in said]) for name in said[0]}
        return {f"{_KEY}{name}": array for name, array in found.items()}

    @torch.no_grad()
    def embeddings(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what `ContrastObjective.embeddings` returns, of the teacher."""
        fields = self.fields
        for module in self._modules:
            module.to(batch["image"].device)
        inputs = [each for spec in self.specs for each in spec.inputs]
        leaves = {
            each.name: as_taken(each, batch[f"{_KEY}{each.name}"])
            if isinstance(each.source, PictureSource)
            else batch[f"{_KEY}{each.name}"].flatten(0, 1)
            for each in inputs
        }
        values = self._pulling.values(self._calls, leaves)
        scale = torch.tensor(fields.scale, device=batch["image"].device)
        return {PICTURES: values[fields.picture].float(), TEXTS: values[fields.text].float(), "scale": scale}
