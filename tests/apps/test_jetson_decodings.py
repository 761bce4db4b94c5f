"""The board's script on a bundle of every decoding: golden cases pass, and a planted fault in each is found.

The six small models have random weights; the script knows none of them, only what their manifests declare.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from older_bundles import as_schema_1

from edgevl.app.conformance.small_models import MODELS
from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import read_golden, replay
from edgevl.contracts import Query
from edgevl.errors import VerificationFailed


@pytest.fixture
def copy(small, tmp_path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(small[name], tmp_path / f"{name}.edgevl"))


def opened(jetson: SimpleNamespace, path: Path) -> Any:
    """(the bundle, its pipeline on ONNX Runtime) as the script opens them."""
    bundle = jetson.bundle_reader.Bundle(path)
    runner = jetson.onnx_runner.OnnxRunner(bundle, 1)
    return bundle, jetson.pipeline.Pipeline(bundle, runner, (), ())


def replayed(jetson: SimpleNamespace, path: Path) -> int:
    bundle, pipeline = opened(jetson, path)
    jetson.golden_cases.check(bundle)
    return jetson.golden_cases.replay(bundle, pipeline.values)


def edit(path: Path, name: str, change: Callable[[Any], object]) -> None:
    """Change a JSON file of a bundle, and its digest in the manifest with it."""
    values = json.loads((path / name).read_text("utf-8"))
    change(values)
    data = json.dumps(values).encode()
    (path / name).write_bytes(data)
    if name != "manifest.json":
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        edit(path, "manifest.json", lambda manifest: manifest["files"].update({name: entry}))


@pytest.mark.parametrize("name", [*MODELS, "renamed"])
def test_golden_cases_of_every_decoding_pass(jetson, small, name):
    assert replayed(jetson, small[name]) == len(read_golden(Bundle.open(small[name])).cases) >= 5


def first(values: dict) -> dict:
    return next(iter(values.values()))


def wrong_value(case: dict) -> None:
    for entry in case["values"].values():
        if entry.get("data"):
            entry["data"] = [
                value * 1.5 for value in entry["data"]
            ]  # the result that follows is the same, but of a box
        else:
            entry["top"] = [[[index, value + 1] for index, value in row] for row in entry["top"]]


def wrong_ids(case: dict) -> None:
    ids = first(case["input_ids"])[0]
    ids[1] += 1


def wrong_pixels(case: dict) -> None:
    digests = first(case["pixels_sha256"])
    digests[-1] = digests[-1][::-1]


def wrong_result(case: dict) -> None:
    result = case["result"]
    other = {"yes": "no", "false": "true", "true": "false", 0: 1}
    result[-1] = [each / 2 for each in result[-1]] if isinstance(result[-1], list) else other.get(result[-1], 1)


@pytest.mark.parametrize("fault", [wrong_value, wrong_ids, wrong_pixels, wrong_result])
@pytest.mark.parametrize("name", MODELS)
def test_a_planted_fault_is_found(jetson, copy, name, fault):
    """In the board's script and in `edgevl`."""
    path = copy(name)
    if fault is wrong_ids and name in ("captioner", "prefixed"):
        pytest.skip("a captioner reads no text")
    edit(path, "golden.json", lambda golden: fault(golden["cases"][1]))
    words = {wrong_value: "differs by|not follow", wrong_ids: "token ids", wrong_pixels: "pixels",
             wrong_result: "does not follow"}[fault]  # fmt: skip
    with pytest.raises(jetson.problems.Problem, match=words) as caught:
        replayed(jetson, path)
    assert caught.value.exit_code == 4 and "golden case" in str(caught.value)
    bundle = Bundle.open(path)
    assert replay(bundle, bundle.opened(1)).passed == replay(bundle, bundle.opened(1)).total - 1


@pytest.mark.parametrize("name", ["grounding", "statement", "captioner"])
def test_an_artifact_of_other_weights_is_found(jetson, copy, name):
    """The file of the last program with other weights: its digest fits, its values do not."""
    import onnx
    from onnx import numpy_helper

    path = copy(name)
    artifact = json.loads((path / "manifest.json").read_text("utf-8"))["programs"][-1]["artifact"]
    model = onnx.load(path / artifact)
    for each in model.graph.initializer:
        array = numpy_helper.to_array(each)
        if array.dtype == np.float32 and array.ndim == 2:
            each.CopyFrom(numpy_helper.from_array(np.flip(array).copy(), each.name))
    data = model.SerializeToString()
    (path / artifact).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(path, "manifest.json", lambda manifest: manifest["files"].update({artifact: entry}))
    with pytest.raises(jetson.problems.Problem, match=r"differs by|the result is") as caught:
        replayed(jetson, path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_of_edgevl(jetson, small, name):
    """Without a recorded answer to follow: a sequence takes its own tokens."""
    bundle, pipeline = opened(jetson, small[name])
    model = Bundle.open(small[name]).opened(1)
    for case in bundle.golden["cases"][:3]:
        pictures = [small[name] / each for each in case["pictures"]]
        texts = [*case["texts"], "is there a dog?"] if bundle.decoding.fields["kind"] != "generate" else case["texts"]
        (answer,) = model.answer([Query(tuple(pictures), tuple(texts))])
        own = pipeline.values([jetson.bundle_reader.decode(each.read_bytes()) for each in pictures], texts, None)
        result = bundle.decoding.answer(own).result
        assert all(map(bundle.decoding.equal, result, answer.result)) and len(result) == len(answer.result)
        for output, values in answer.values.items():
            np.testing.assert_allclose(own[output], values, atol=1e-5)


# Calls


@pytest.mark.parametrize(
    ("name", "pictures", "texts", "calls"),
    [
        ("grounding", 1, 4, {"vision": 1, "fusion": 4}),  # a picture is encoded once for many texts
        ("statement", 2, 3, {"vision": 2, "fusion": 3}),  # a program that is called for two pictures runs twice
        ("towers", 3, 2, {"image_encoder": 3, "text_encoder": 2}),
        ("captioner", 1, 0, {"vision": 1}),
        ("answerer", 1, 1, {"vision": 1, "prefill": 1}),  # the prefix is two states of one call
    ],
)
def test_nothing_is_computed_twice(jetson, small, name, pictures, texts, calls):
    plan = jetson.bundle_reader.Bundle(small[name]).decoding.plan(pictures, texts)
    names = [call.program["name"] for call in plan.calls]
    assert {each: names.count(each) for each in names} == calls
    assert (plan.loop is not None) == (name in ("captioner", "answerer"))
    for number, call in enumerate(plan.calls):
        values = [origin for _, origin in call.inputs if isinstance(origin, jetson.calls.Value)]
        assert all(value.call < number for value in values), "what a call reads comes before it"


def test_a_query_with_too_little_is_refused(jetson, small):
    with pytest.raises(jetson.problems.Problem, match="reads picture 2 of a query, this one has 1") as caught:
        jetson.bundle_reader.Bundle(small["statement"]).decoding.plan(1, 1)
    assert caught.value.exit_code == 2


def test_calls_without_end_are_refused(jetson):
    """Sixteen programs of which each reads the one before twice, with other texts: 65 536 calls for one query."""
    programs = []
    for number in range(16):
        sources: list[dict] = [{"kind": "text"}]
        if number:
            before = {"kind": "value", "name": f"v{number - 1}"}
            sources = [
                {**before, "texts": [*range(1, 16), 0]},
                {**before, "texts": [*range(15), *([15] * (number % 2))]},
            ]
        inputs = [{"name": f"i{index}", "from": source} for index, source in enumerate(sources)]
        programs.append({"name": f"p{number}", "inputs": inputs, "outputs": [{"name": f"v{number}"}]})
    plan = jetson.calls.Plan(programs, 0, 16)
    with pytest.raises(jetson.problems.Problem, match=r"make more than 4096 calls|reads text \d+") as caught:
        plan.read("v15", (), tuple(range(16)))
    assert caught.value.exit_code in (2, 4) and len(plan.calls) <= jetson.calls.MAX_CALLS


# What is refused


def set_in(section: str, **values: Any) -> Callable[[dict], object]:
    return lambda manifest: manifest[section].update(values)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("grounding", set_in("decoding", kind="mask"), "the decoding 'mask' is not known"),
        ("grounding", set_in("decoding", size=3), "may not have 'size'"),
        ("towers", set_in("decoding", rerank="scores"), "may not have 'rerank'"),
        ("captioner", set_in("decoding", steps="6"), "is no integer"),
        ("captioner", set_in("decoding", text="other"), "names the text processing"),
        ("captioner", set_in("decoding", output="next_keys"), r"reads next_keys as float \[B, N\]"),
        ("captioner", set_in("decoding", output="visual"), "of the program decoder, which does not give it"),
        ("grounding", set_in("decoding", output="visual"), r"reads visual as float \[B, 4\]"),
        ("towers", set_in("decoding", prompts=["no place"]), "must hold {} once"),
        ("statement", lambda manifest: manifest.update(labels=None), "needs labels|no part in a bundle"),
        ("grounding", lambda m: m["text_processing"]["main"].update(kind="unigram"), '"unigram" is not read'),
        ("grounding", lambda m: m["text_processing"]["main"].update(kind="byte-bpe"), '"byte-bpe" is not read'),
        ("grounding", lambda m: m["text_processing"]["main"].update(stop_id=4), "stop_id is 3, the manifest says 4"),
        ("grounding", lambda m: m["image_processing"]["main"].update(shortest_edge=40), "does not go with"),
        ("grounding", lambda m: m["programs"][0]["inputs"][0]["from"].update(kind="camera"), "kind that is not one of"),
        ("grounding", lambda m: m["programs"][0]["inputs"][0]["from"].update(mirrored=True), "may not have 'mirrored'"),
        ("grounding", lambda m: m["programs"][1]["inputs"][0]["from"].update(name="box"), "needs the value box"),
    ],
)  # fmt: skip
def test_what_is_not_known_or_does_not_fit_is_refused(jetson, copy, name, change, words):
    path = copy(name)
    edit(path, "manifest.json", change)
    with pytest.raises(jetson.problems.Problem, match=words) as caught:
        jetson.bundle_reader.Bundle(path)
    assert caught.value.exit_code == 4
    if "byte-bpe" not in words:  # which edgevl reads; this file is none
        with pytest.raises(VerificationFailed):
            Bundle.open(path).checked().opened(run=False)


def test_a_bundle_of_schema_1_is_read_as_schema_2(jetson, bundles):
    older, newer = (jetson.bundle_reader.Bundle(bundles[name]) for name in ("older", "onnx"))
    assert json.loads((bundles["older"] / "manifest.json").read_text("utf-8"))["schema_version"] == 1
    for key in ("decoding", "labels", "task", "target", "precision"):
        assert older.manifest[key] == newer.manifest[key]
    assert older.decoding.plan(1, 1).calls[0].inputs == newer.decoding.plan(1, 1).calls[0].inputs
    assert older.golden == newer.golden and older.artifact_sha256 == newer.artifact_sha256
    assert replayed(jetson, bundles["older"]) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_in("model", image_size=64), "preprocessing.size is 32, but model.image_size is 64"),
        (lambda manifest: manifest.update(task="caption"), "task"),
        (lambda manifest: manifest.update(decoding={"kind": "box"}), "may not have 'decoding'"),
        (lambda manifest: manifest.update(schema_version=3), "has schema version 3, this script reads up to 2"),
        (lambda manifest: manifest.update(schema_version=True), "is not valid"),
    ],
)
def test_schema_1_keeps_its_rules(jetson, bundles, tmp_path, change, words):
    path = Path(shutil.copytree(bundles["older"], tmp_path / "older.edgevl"))
    edit(path, "manifest.json", change)
    with pytest.raises(jetson.problems.Problem, match=words) as caught:
        jetson.bundle_reader.Bundle(path)
    assert caught.value.exit_code == 4
    with pytest.raises(VerificationFailed):
        Bundle.open(path)


def test_two_programs_of_schema_1(jetson, bundles, tmp_path):
    path = as_schema_1(Path(shutil.copytree(bundles["split"], tmp_path / "split.edgevl")))
    assert len(json.loads((path / "manifest.json").read_text("utf-8"))["programs"]) == 2
    assert replayed(jetson, path) == 6
    assert jetson.bundle_reader.Bundle(path).artifact_sha256 == Bundle.open(path).artifact_sha256
