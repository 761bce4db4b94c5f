"""A calibration set that cannot be trusted is refused in one line; a doubtful one is used with a warning."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from edgevl.app.conformance.small_models import MODELS
from edgevl.contracts import Query, Sample
from edgevl.errors import InputError
from edgevl.opened import Opened, eager
from edgevl.plans.plan import Range
from edgevl.quantize.calibration_audit import audit_ranges, audit_samples, distinct_pictures
from edgevl.verify.measure import draw

DATA = "scenes:val"


@pytest.fixture(scope="module")
def scenes() -> tuple[Sample, ...]:
    return draw(DATA, "vqa", 128, 128, seed=3)


@pytest.fixture(scope="module")
def model(toy_model) -> Opened:
    return eager(toy_model)


def pictures_of(samples: Sequence[Sample]) -> list[np.ndarray]:
    return [sample.query.pictures[0] for sample in samples]


def jpeg(picture: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


NEAR = {
    "the same": lambda picture: picture,
    "JPEG": jpeg,
    "noise": lambda picture: np.random.default_rng(0).normal(picture, 10).clip(0, 255).astype(np.uint8),
    "more light": lambda picture: (picture.astype(int) + 9).clip(0, 255).astype(np.uint8),
    "moved by a pixel": lambda picture: np.roll(picture, 1, axis=1),
}


@pytest.mark.parametrize("name", NEAR)
def test_near_copies_are_one_picture(scenes, name):
    pictures = pictures_of(scenes[:8])
    assert distinct_pictures([*pictures, *map(NEAR[name], pictures)]) == 8


def test_scenes_are_different_pictures(scenes):
    pictures = pictures_of(scenes)
    assert distinct_pictures(pictures) == 128
    flipped = [*pictures, *(picture[:, ::-1] for picture in pictures)]
    assert distinct_pictures(flipped) > 240, "a flipped picture shows other things to a convolution"


def test_copies_are_found_across_chunks():
    """Of 600 pictures the last 300 repeat the first: chunks of 256 see all that came before."""
    pictures = pictures_of(draw(DATA, "vqa", 300, 32))
    single = distinct_pictures(pictures)
    assert distinct_pictures([*pictures, *pictures]) == single > 290


def test_eight_copies_of_a_picture_are_refused(model, scenes):
    with pytest.raises(InputError) as refused:
        audit_samples(model, [scenes[5]] * 8, DATA)
    assert str(refused.value) == (
        'the 8 samples of "scenes:val" show only 1 picture, the others are near copies: '
        "at least 64 different pictures are needed, 512 are usual"
    )


def test_copies_beside_other_pictures_are_refused(model, scenes):
    with pytest.raises(InputError, match=r"the 128 samples of .* show only 63 different pictures"):
        audit_samples(model, [*scenes[:63], *[scenes[0]] * 65], DATA)


def test_too_few_samples_are_refused(model, scenes):
    with pytest.raises(InputError, match=r'^63 samples of "scenes:val" are too few .* at least 64 different pictures'):
        audit_samples(model, scenes[:63], DATA)
    assert audit_samples(model, scenes[:64], DATA).pictures == 64


def test_one_text_is_refused(model, scenes):
    asked = [Sample(Query(each.query.pictures, ("is it red?",)), each.target) for each in scenes]
    with pytest.raises(InputError, match="have only 1 different text: at least 8 are needed"):
        audit_samples(model, asked, DATA)


def test_only_what_a_model_reads_is_looked_at(scenes):
    """A model of captions reads no text, so that samples without one are no fault."""
    silent = [Sample(Query(each.query.pictures), ("a car",)) for each in scenes]
    coverage = audit_samples(eager(MODELS["captioner"]()), silent, DATA)
    assert (coverage.pictures, coverage.questions, coverage.labels) == (128, 0, 0)
    assert not coverage.warnings


def test_what_is_hardly_covered_is_a_warning(model, scenes):
    kinds = ("color",) * 125 + ("size",) * 3
    asked = [Sample(each.query, "yes", kind) for each, kind in zip(scenes, kinds)]
    labelled = dataclasses.replace(model, labels=["yes", *map(str, range(20))])
    coverage = audit_samples(labelled, asked, DATA)
    assert (coverage.answers, coverage.labels, coverage.kinds) == (1, 21, {"color": 125, "size": 3})
    assert "few questions of some kinds (3 of size)" in coverage.warnings[0]
    assert coverage.warnings[1] == "the samples have only 1 of the 21 answers of the model"


def test_ranges_that_still_grow_are_refused(model, scenes):
    coverage = audit_samples(model, scenes, DATA)
    values = {f"v{i}": Range(low=0, high=1) for i in range(20)}
    grown = {f"v{i}": Range(low=0, high=0.7 if i < 2 else 1) for i in range(20)}
    with pytest.raises(InputError, match=r"2 of 20 values still grow: .* v0 by 30%, v1 by 30% .*try --samples 512"):
        audit_ranges(coverage, grown, values, 128)
    one = {**values, "v0": grown["v0"]}
    assert audit_ranges(coverage, one, values, 128).growing == 0.05
    assert audit_ranges(coverage, values, values, 128).growing == 0.0


def test_a_seed_draws_other_samples_and_the_same_again():
    first, again, other = (draw(DATA, "vqa", 20, 32, seed=seed) for seed in (0, 0, 1))
    draw.cache_clear()
    fresh = draw(DATA, "vqa", 20, 32, seed=0)
    asked = [[sample.query.texts for sample in samples] for samples in (first, again, fresh, other)]
    assert asked[0] == asked[1] == asked[2] != asked[3]
    assert all((a == b).all() for a, b in zip(pictures_of(first), pictures_of(fresh)))
    assert len({picture.tobytes() for picture in pictures_of(first)}) == 20
