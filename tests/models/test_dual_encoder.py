"""The dual encoder and the kinds of model folders: what is saved, what is loaded, what leaves as a bundle."""

import json
import shutil

import numpy as np
import pytest
import torch

from edgevl.app.conformance.small_models import PICTURES, TEXTS
from edgevl.config import DualEncoderConfig, ModelConfig
from edgevl.contracts import Query
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.decodings import decoding_of
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError
from edgevl.export.registry import get_exporter
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder, build_model
from edgevl.models.checkpoint import EMBEDDED, load_dual_encoder, load_model, open_model, save_dual_encoder, save_model
from edgevl.models.kinds import deployable_of, open_deployable
from edgevl.runtime.eager_session import eager_runner
from edgevl.runtime.session import open_session

SMALL = {
    "backbone": "test_resnet", "backbone_options": {}, "image_size": 32, "text_length": 16, "width": 32, "heads": 2
}  # fmt: skip
CONFIG = DualEncoderConfig(name="small", embedding=16, queries=4, depth=1, **SMALL)  # pyright: ignore
ANSWERING = ModelConfig(depth=1, num_answers=len(ANSWERS), **SMALL)  # pyright: ignore


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return save_dual_encoder(tmp_path_factory.mktemp("dual"), DualEncoder(CONFIG), Tokenizer.from_words(VOCABULARY))


def answering(folder, task="vqa"):
    model = build_model(ANSWERING.replace(task=task))
    return save_model(folder, model, Tokenizer.from_words(VOCABULARY), list(ANSWERS))


def test_a_folder_says_its_kind_and_its_task(folder, tmp_path):
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["kind"] == "dual_encoder"
    assert not (folder / "labels.json").exists()
    loaded = open_model(folder)
    assert (type(loaded.model), loaded.config) == (DualEncoder, CONFIG)
    statement = open_model(answering(tmp_path, "statement"))
    assert statement.config.task == "statement" == deployable_of(statement).task


def test_each_loader_refuses_the_other_kind(folder):
    with pytest.raises(InputError, match="is a dual encoder, which answers no questions"):
        load_model(folder)
    with pytest.raises(InputError, match="is no dual encoder"):
        load_dual_encoder(EMBEDDED)


def test_an_unknown_kind_is_refused_by_name(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"kind": "dual_encodr"}), encoding="utf-8")
    with pytest.raises(InputError, match=r'kind of model in .* "dual_encodr"; did you mean "dual_encoder"'):
        open_model(tmp_path / "other")


def test_a_width_that_cannot_be_built_is_refused_before_it_is(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "wide")
    config = CONFIG.to_dict() | {"width": 4096, "embedding": 4096}
    (tmp_path / "wide" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="too few for the"):
        open_model(tmp_path / "wide")


def test_the_embedded_model_stays_as_it_is():
    loaded = open_model()
    assert json.loads((EMBEDDED / "config.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(loaded.config.to_dict())
    )
    assert (deployable_of(loaded).task, deployable_of(loaded).layouts) == ("vqa", ("single", "split"))


@pytest.mark.parametrize("task", ["statement", "retrieval"])
def test_a_folder_of_before_the_task_was_saved_has_it_from_its_recipe(tmp_path, task):
    answering(tmp_path)
    assert open_model(tmp_path).config.task == "vqa"
    (tmp_path / "training.json").write_text(json.dumps({"recipe": {"task": task}}), encoding="utf-8")
    assert open_model(tmp_path).config.task == task


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"trained for retrieval, .*edgevl finetune retrieval_scenes_nano"):
        open_deployable(answering(tmp_path, "retrieval"))


def test_padding_does_not_move_a_text(folder):
    model = load_dual_encoder(folder).model
    ids = torch.from_numpy(Tokenizer.from_words(VOCABULARY).encode("a red car", CONFIG.text_length))[None]
    with torch.no_grad():
        torch.testing.assert_close(model.embed_text(ids), model.embed_text(ids[:, :5]), atol=1e-6, rtol=0)


def test_embeddings_have_length_one_and_the_scale_has_a_limit(folder):
    model = load_dual_encoder(folder).model
    with torch.no_grad():
        embedded = model.embed_picture(torch.rand(3, 3, 32, 32) * 255)
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))
        assert model.scale.item() == pytest.approx(14.3, rel=1e-3)
        model.log_scale.fill_(20)
    assert decoding_of(deployable_of(open_model(folder))).model.decoding["scale"] == pytest.approx(14.3, rel=1e-3)
    assert model.scale.item() == 100


@pytest.mark.parametrize("target, tolerance", [("onnx", 1e-5), ("coreml", 2e-2)])
def test_artifacts_give_the_embeddings_of_the_model(folder, tmp_path, target, tolerance):
    model, exporter = open_deployable(folder), get_exporter(target)
    programs = model.programs(model.layouts[0])
    exporter.export(model, tmp_path, layout=model.layouts[0])
    files = exporter.files(programs)
    sessions = {program.name: open_session(tmp_path / files[program.name], target) for program in programs}
    queries = [Query(tuple(PICTURES), TEXTS)]
    decoding = decoding_of(model)
    (reference,) = decoding.run(eager_runner(model), queries)
    runner = Runner([program.spec for program in programs], sessions, model.images, model.texts)
    (own,) = decoding.run(runner, queries)
    for name, values in reference.values.items():
        np.testing.assert_allclose(own.values[name], values, atol=tolerance)
    assert decoding.same(own, reference, {"image_embeds": tolerance, "text_embeds": tolerance})
