"""A dual encoder as a bundle: each artifact is one half, and what is measured of it is recall."""

import json

import pytest
import torch

from edgevl.bundle.card import render_card
from edgevl.bundle.folder import Bundle
from edgevl.bundle_export import export_bundle
from edgevl.cli import main
from edgevl.config import DualEncoderConfig
from edgevl.data.scenes import VOCABULARY
from edgevl.embedded import FINDS_PICTURES
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder
from edgevl.models.capture import capture
from edgevl.models.checkpoint import open_model, save_dual_encoder
from edgevl.models.kinds import open_deployable
from edgevl.predict import Answerer
from edgevl.verify.audit import read_contents
from edgevl.verify.run import verify_bundle

NAMES = [f"{way}_r{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)]
HALVES = {
    "image_encoder": ("vision", "picture_pool", "picture_projection"),
    "text_encoder": ("text", "words", "text_pool", "text_projection"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = DualEncoderConfig(
        backbone="test_resnet", backbone_options={}, image_size=32, width=32, heads=2, depth=1, embedding=16
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dual") / "model"
    return save_dual_encoder(folder, DualEncoder(config), Tokenizer.from_words(VOCABULARY))


@pytest.fixture(scope="module")
def bundle(model):
    return export_bundle(model, "onnx", out=model.parent / "own.edgevl")


@pytest.mark.parametrize("adapter", ["raw", "float"])
def test_each_program_holds_its_own_half_and_nothing_else(adapter):
    for program in open_deployable(FINDS_PICTURES).programs("towers"):
        captured = capture(program, adapter)
        halves = {name.removeprefix("model.").split(".")[0] for name in captured.state_dict}
        assert halves == set(HALVES[program.name])
        learned = sum(each.numel() for _, each in captured.named_parameters())
        assert learned <= program.parameters <= learned + 1  # the temperature is of both


def test_the_halves_are_the_whole_model():
    programs = open_deployable(FINDS_PICTURES).programs("towers")
    whole = sum(each.numel() for each in open_model(FINDS_PICTURES).model.parameters())
    assert sum(program.parameters for program in programs) == whole + 1


def test_artifacts_are_no_larger_than_their_halves(bundle, model):
    programs = {program.name: program for program in open_deployable(model).programs("towers")}
    opened = Bundle.open(bundle)
    for spec in opened.manifest.programs:
        weights = 4 * programs[spec.name].parameters
        assert weights * 0.9 < (bundle / spec.artifact).stat().st_size < weights * 1.3 + 60_000
    assert not [weight.name for each in read_contents(opened).values() for weight in each.weights if not weight.used]


def test_verify_measures_recall_beside_pytorch(bundle, model, capsys):
    report = verify_bundle(bundle, samples=40, checkpoint=model)
    assert report.ok and report.parity and report.accuracy, report.audit.problems
    assert set(report.parity.outputs) == {"image_embeds", "text_embeds"}
    assert [metric.name for metric in report.accuracy.metrics] == NAMES
    for metric in report.accuracy.metrics:
        assert metric.reference == metric.artifact and metric.ci95[0] <= metric.artifact <= metric.ci95[1]
    card = render_card(Bundle.open(bundle).manifest)
    assert "| Text to image recall@1 on 40 samples" in card and "| Image to text recall@10 |" in card
    assert "| all (40) |" not in card and 'sample "a red car" "a green car"' in card
    assert main(["inspect", str(bundle)]) == 0
    assert "text to image recall@5" in capsys.readouterr().out
    assert main(["report", str(bundle), "--out", str(model.parent / "report.html")]) == 0
    page = (model.parent / "report.html").read_text(encoding="utf-8")
    assert "% text to image recall@1" in page and "Image to text recall@10" in page and "kind of question" not in page


def test_predict_ranks_texts_and_labels_with_a_bundle_and_a_folder(bundle, model, capsys):
    texts = ["a red car", "a green car", "a blue bird"]
    answers = []
    for source in (bundle, model):
        assert main(["predict", str(source), "sample", *texts, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [label for label, _ in answers[0]["scores"]] == [label for label, _ in answers[1]["scores"]]
    assert sum(share for _, share in answers[0]["scores"]) == pytest.approx(1)
    assert main(["predict", str(bundle), "sample", "--labels", "cat, dog", "--json"]) == 0
    assert {label for label, _ in json.loads(capsys.readouterr().out)["scores"]} == {"cat", "dog"}


def test_the_embedded_model_knows_its_sample():
    embedded = Answerer.load(FINDS_PICTURES)
    assert embedded.answer_all("sample", ["a red car", "a green car"])[0].answer == "a green car"
    assert embedded.label("sample", ["car", "airplane", "tree"]).answer == "car"
    assert "give two or more" in embedded.answer("sample", "a green car").notes[0]
    assert "hardly counts" in embedded.answer_all("sample", ["a car left of a cat", "a car"])[0].notes[0]
    assert embedded.answer_all("sample", ["a red qwertz", "a car"])[0].unknown_words == ["qwertz"]


def test_what_takes_no_labels_says_so(capsys):
    with pytest.raises(InputError, match="is for vqa and takes no labels: ask it a question"):
        Answerer.load(None).label("sample", ["cat", "dog"])
    with pytest.raises(InputError, match="1 label: give two or more"):
        Answerer.load(FINDS_PICTURES).label("sample", ["cat"])
    both = ["a?", "--labels", "cat, dog"]
    for arguments, said in (([], "question is empty"), (both, "either a question or --labels")):
        assert main(["predict", "nano", "sample", *arguments]) == 2
        assert said in capsys.readouterr().err
