"""A calibration set that cannot be trusted is refused in one line; a doubtful one is used with a warning."""

import io

import numpy as np
import pytest
from PIL import Image

from edgevl.errors import InputError
from edgevl.evaluate import Samples, draw_samples
from edgevl.quantize.calibration_audit import audit_ranges, audit_samples, distinct_pictures
from edgevl.quantize.plan import Range

LABELS = ("yes", "no", "red")


@pytest.fixture(scope="module")
def scenes() -> Samples:
    return draw_samples("scenes:val", 128, 128, seed=3)


def chosen(samples: Samples, indices, **changes) -> Samples:
    pick = lambda texts: tuple(texts[index] for index in indices)  # noqa: E731
    values = {"pixels_NSS3": samples.pixels_NSS3[list(indices)], "questions": pick(samples.questions)}
    values |= {"answers": pick(samples.answers), "kinds": pick(samples.kinds)}
    return Samples(**{"data": samples.data, **values, **changes})


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
    pictures = scenes.pixels_NSS3[:8]
    copies = np.stack([NEAR[name](picture) for picture in pictures])
    assert distinct_pictures(np.concatenate([pictures, copies])) == 8


def test_scenes_are_different_pictures(scenes):
    assert distinct_pictures(scenes.pixels_NSS3) == 128
    flipped = np.concatenate([scenes.pixels_NSS3, scenes.pixels_NSS3[:, :, ::-1]])
    assert distinct_pictures(flipped) > 240, "a flipped picture shows other things to a convolution"


def test_copies_are_found_across_chunks():
    """Of 600 pictures the last 300 repeat the first: chunks of 256 see all that came before."""
    pictures = draw_samples("scenes:val", 300, 32).pixels_NSS3
    single = distinct_pictures(pictures)
    assert distinct_pictures(np.concatenate([pictures, pictures])) == single > 290


def test_eight_copies_of_a_picture_are_refused(scenes):
    with pytest.raises(InputError) as refused:
        audit_samples(chosen(scenes, [5] * 8), LABELS)
    assert str(refused.value) == (
        'the 8 samples of "scenes:val" show only 1 picture, the others are near copies: '
        "at least 64 different pictures are needed, 512 are usual"
    )


def test_copies_beside_other_pictures_are_refused(scenes):
    with pytest.raises(InputError, match=r"the 128 samples of .* show only 63 different pictures"):
        audit_samples(chosen(scenes, [*range(63), *[0] * 65]), LABELS)


def test_too_few_samples_are_refused(scenes):
    with pytest.raises(InputError, match=r'^63 samples of "scenes:val" are too few .* at least 64 different pictures'):
        audit_samples(chosen(scenes, range(63)), LABELS)
    assert audit_samples(chosen(scenes, range(64)), LABELS).pictures == 64


def test_one_question_is_refused(scenes):
    asked = chosen(scenes, range(128), questions=("is it red?",) * 128)
    with pytest.raises(InputError, match="ask only 1 different question: at least 8 are needed"):
        audit_samples(asked, LABELS)


def test_what_is_hardly_covered_is_a_warning(scenes):
    kinds = ("color",) * 125 + ("size",) * 3
    coverage = audit_samples(
        chosen(scenes, range(128), kinds=kinds, answers=("yes",) * 128), ["yes", *map(str, range(20))]
    )
    assert (coverage.answers, coverage.labels, coverage.kinds) == (1, 21, {"color": 125, "size": 3})
    assert "few questions of some kinds (3 of size)" in coverage.warnings[0]
    assert coverage.warnings[1] == "the samples have only 1 of the 21 answers of the model"


def test_ranges_that_still_grow_are_refused(scenes):
    coverage = audit_samples(scenes, LABELS)
    values = {f"v{i}": Range(low=0, high=1) for i in range(20)}
    grown = {f"v{i}": Range(low=0, high=0.7 if i < 2 else 1) for i in range(20)}
    with pytest.raises(InputError, match=r"2 of 20 values still grow: .* v0 by 30%, v1 by 30% .*try --samples 512"):
        audit_ranges(coverage, grown, values, 128)
    one = {**values, "v0": grown["v0"]}
    assert audit_ranges(coverage, one, values, 128).growing == 0.05
    assert audit_ranges(coverage, values, values, 128).growing == 0.0


def test_a_seed_draws_other_samples_and_the_same_again():
    first, again, other = (draw_samples("scenes:val", 20, 32, seed=seed) for seed in (0, 0, 1))
    draw_samples.cache_clear()
    fresh = draw_samples("scenes:val", 20, 32, seed=0)
    assert first.questions == again.questions == fresh.questions != other.questions
    assert (first.pixels_NSS3 == fresh.pixels_NSS3).all()
    assert len(set(map(bytes, first.pixels_NSS3))) == 20
