"""Names of opponents and groups; every opponent built at full size (slow)."""

from pathlib import Path

import numpy as np
import pytest

from edgevl.bench.harness import Stopwatch
from edgevl.bench.opponents import GROUPS, OPPONENTS, expand
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import Query, run_pipeline
from edgevl.errors import InputError


def test_a_group_becomes_its_variants_each_once_and_in_order():
    asked = ["vilt", "region-heavy", "region-light", "region-light-ssd"]
    heavy, light = ["region-heavy", "region-heavy-fpn"], ["region-light-ssd", "region-light-frcnn"]
    assert expand(asked) == ["vilt", *heavy, *light]


def test_groups_have_known_members():
    assert all(expand([group]) == list(members) for group, members in GROUPS.items())


def test_an_unknown_name_lists_opponents_and_groups():
    with pytest.raises(InputError, match='unknown opponent "region-ligth"; did you mean "region-light"') as caught:
        expand(["vilt", "region-ligth"])
    assert all(name in str(caught.value) for name in (*OPPONENTS, *GROUPS))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPPONENTS)
def test_every_opponent_is_built_and_answers(name, tmp_path):
    from edgevl.bundle.folder import Bundle
    from edgevl.bundle_export import export_bundle

    bundle = Bundle.open(export_bundle(None, "onnx", out=tmp_path / "model.edgevl"))
    photo, folder = make_photo(), Path(tmp_path, name)
    folder.mkdir()
    opponent = OPPONENTS[name]
    opponent.build(folder, bundle, np.asarray(photo))
    assert all((folder / artifact).stat().st_size > 0 for artifact in opponent.artifacts)
    pipeline = opponent.open(folder, 1)
    assert run_pipeline(pipeline, Query(encode(photo), "what color is the car?"), Stopwatch()) in (
        bundle.labels() or ()
    )
    assert pipeline.name == name and "untrained weights: only time is claimed" in pipeline.notes
