"""`domain.json`, beside a model: what it was trained on, as numbers, and what they say of a picture and its logits.

Shapes: S side of the model's picture, A answers.
"""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from edgevl.bundle.fields import Count, Label, Part, Real, Sha256
from edgevl.bundle.manifest import parse_json, validate
from edgevl.domain.features import COUNT, FEATURES, MIN_SIDE, picture_features
from edgevl.errors import InputError, VerificationFailed
from edgevl.plain import command_line
from edgevl.reading import read_text

DOMAIN = "domain.json"  # in a model folder and in a bundle
MAX_BYTES = 2**20
MOST = 5000  # pictures
Features = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * COUNT}}}$")]  # two hexadecimal digits each
Spread = Annotated[float, Field(ge=0.01, le=1000)]


class Domain(Part):
    """How pictures, questions and logits were where the model is known to answer well."""

    schema_version: Literal[1] = 1
    checkpoint_sha256: Sha256  # of the weights that it was made with
    about: Label  # what the model was trained on, for people
    data: Label  # where the numbers are from
    questions: Count  # held out, that the limits and the temperature are of
    features: Literal["smoothness-tone-color"] = FEATURES
    pictures: Annotated[tuple[Features, ...], Field(min_length=1, max_length=MOST)]  # of training
    spread: Annotated[tuple[Spread, ...], Field(min_length=COUNT, max_length=COUNT)]  # of each feature
    neighbors: Annotated[int, Field(ge=1, le=100)]
    picture_limit: Annotated[float, Field(gt=0, le=1e6)]  # of the distance to the neighbor of that number
    logit_limit: Real  # of the largest logit
    temperature: Annotated[float, Field(ge=0.01, le=100)]
    characters: Annotated[str, Field(max_length=64)]  # letters and digits that training texts use as words

    @model_validator(mode="after")
    def _has_neighbors(self) -> "Domain":
        if len(self.pictures) < self.neighbors:
            raise ValueError(f"{self.neighbors} neighbors of {len(self.pictures)} pictures")
        return self

    @cached_property
    def known(self) -> np.ndarray:
        """The features of the training pictures, uint8 [N, 28]."""
        return np.frombuffer(bytes.fromhex("".join(self.pictures)), np.uint8).reshape(-1, COUNT)

    def score(self, pixels_SS3: np.ndarray) -> float:
        """How far a picture is from those of training: 1 is the limit, what is larger is another kind of picture."""
        features = picture_features(pixels_SS3)
        return distance(features, self.known, np.array(self.spread), self.neighbors) / self.picture_limit

    def is_sure(self, logits_A: np.ndarray) -> bool:
        """Say if the best answer fits as well as it does in training: its logit reaches the limit."""
        return float(logits_A.max()) >= self.logit_limit

    def confidence(self, logits_A: np.ndarray) -> float:
        """How often such an answer is right, as a share: the largest probability at the temperature."""
        scaled = logits_A.astype(np.float64) / self.temperature
        return float(1 / np.exp(scaled - scaled.max()).sum())

    def to_json(self) -> str:
        """The same numbers give the same text, with a list of numbers in one line."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
        return re.sub(r"\[[-+.\de,\s]+\]", lambda found: " ".join(found[0].split()), text) + "\n"


def distance(features_F: np.ndarray, known_NF: np.ndarray, spread_F: np.ndarray, neighbors: int) -> float:
    """The distance to the nearest training picture, or the second, third …; each feature is divided by its spread."""
    off = (known_NF.astype(np.float64) - features_F) / spread_F
    return float(np.sqrt(np.sort((off * off).sum(axis=1))[neighbors - 1]))


def parse_domain(text: str, checkpoint_sha256: str | None, size: int) -> Domain:
    """Validate the text of a `domain.json` of a model whose pictures have the side `size`.

    Raises `VerificationFailed` if it is damaged, unknown to this version, of other weights, or of too small a picture.
    """
    domain = validate(Domain, parse_json(text, DOMAIN), DOMAIN)
    if domain.checkpoint_sha256 != checkpoint_sha256:
        raise VerificationFailed(f"{DOMAIN} was made with other weights")
    if size < MIN_SIDE:
        raise VerificationFailed(f"{DOMAIN} needs pictures of {MIN_SIDE} pixels a side, the model's have {size}")
    return domain


def load_domain(folder: Path, checkpoint_sha256: str, size: int) -> Domain | None:
    """The domain of a model folder, or None. Raises `InputError` for one that is damaged or of other weights."""
    path = folder / DOMAIN
    if not path.is_file():
        return None
    try:
        return parse_domain(read_text(path, MAX_BYTES), checkpoint_sha256, size)
    except VerificationFailed as error:
        reason = str(error).removesuffix("; export the bundle again")
        again = command_line(["edgevl", "domain", "fit", folder, "--force"])
        raise InputError(f"{folder}: {reason}; make it again with {again}") from None
