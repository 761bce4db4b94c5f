"""The runner computes what the sources say, each value once, in any batch, for every kind of model."""

import dataclasses
import json

import numpy as np
import pytest

from edgevl.app.conformance.small_models import MODELS, PICTURES, TEXTS, query_for
from edgevl.apps.jetson.interface import call_problems
from edgevl.bundle.specs import ProgramSpec
from edgevl.contracts import Query
from edgevl.decodings import decoding_of
from edgevl.decodings.runner import Runner
from edgevl.embedded import model_folder
from edgevl.errors import InputError
from edgevl.opened import eager
from edgevl.predict import Answerer
from edgevl.runtime.eager_session import EagerSession, eager_runner
from edgevl.search.finder import Embedder


def runner(model, layout, batch=1, **options) -> Runner:
    programs = model.programs(layout)
    sessions = {program.name: EagerSession(program) for program in programs}
    specs = [program.spec for program in programs]
    return Runner(specs, sessions, model.images, model.texts, dict.fromkeys(sessions, batch), **options)


@pytest.mark.parametrize("name", MODELS)
def test_layouts_and_batches_change_nothing(name):
    model = MODELS[name]()
    decoding, query = decoding_of(model), query_for(model)
    reference = decoding.run(runner(model, model.layouts[0]), [query, query])
    for layout in model.layouts:
        for batch in (1, 4):
            answers = decoding.run(runner(model, layout, batch), [query, query])
            for own, other in zip(answers, reference):
                assert decoding.same(own, other, dict.fromkeys(other.values, 1e-4))
                assert own.values.keys() == other.values.keys()
                for value in own.values:
                    np.testing.assert_allclose(own.values[value], other.values[value], atol=1e-4)


@pytest.mark.parametrize("fill", [True, False])
def test_one_question_costs_a_batch_only_where_a_reference_needs_it(fill, monkeypatch):
    """A search in PyTorch embedded a text 32 times, and `predict` its picture."""
    rows: list[int] = []
    run = EagerSession.run

    def counted(session, feeds):
        rows.append(len(next(iter(feeds.values()))))
        return run(session, feeds)

    monkeypatch.setattr(EagerSession, "run", counted)
    model = MODELS["towers"]()
    found = eager_runner(model, fill=fill)
    values = found.many("text_embeds", [Query((), (text,)) for text in ("a red car", "a cat", "a dog")])
    assert rows == [32 if fill else 3] and len(values) == 3
    (alone,) = eager_runner(model, fill=fill).many("text_embeds", [Query((), ("a cat",))])
    np.testing.assert_allclose(alone, values[1], atol=1e-6)


def test_search_and_predict_run_no_rows_that_nobody_asked_for():
    folder = model_folder("nano-retrieval")
    assert not Embedder.load(folder).runner._fill and not Answerer.load(folder)._runner()._fill


@pytest.mark.parametrize(
    ("name", "layout", "calls"),
    [
        ("grounding", "split", {"vision": 1, "fusion": 3}),  # one picture, three texts
        ("statement", "split", {"vision": 2, "fusion": 3}),  # two pictures
        ("towers", "towers", {"image_encoder": 3, "text_encoder": 3}),
    ],
)
def test_what_is_per_picture_and_what_per_text_falls_out_of_the_sources(name, layout, calls):
    model = MODELS[name]()
    found = runner(model, layout)
    decoding_of(model).run(found, [query_for(model)])
    assert found.calls == calls
    decoding_of(model).run(found, [query_for(model)])
    assert found.calls == calls, "it was remembered"


@pytest.mark.parametrize(
    ("name", "needed"), [("statement", (2, 1)), ("grounding", (1, 1)), ("towers", (1, 1)), ("captioner", (1, 0))]
)
def test_a_model_says_how_much_of_a_query_it_reads_however_it_is_cut(name, needed):
    model = MODELS[name]()
    opened = eager(model)
    for layout in model.layouts:
        programs = tuple(program.spec for program in model.programs(layout))
        assert dataclasses.replace(opened, programs=programs).reads == needed


def test_values_are_remembered_by_content_and_not_by_object():
    model = MODELS["grounding"]()
    found, picture = runner(model, "split"), PICTURES[0].copy()
    first = found.many("visual", [Query((picture,))])[0]
    picture[:] = 255 - picture  # the same object with other pixels
    second = found.many("visual", [Query((picture,))])[0]
    assert np.abs(first - second).max() > 1e-3
    assert np.array_equal(found.many("visual", [Query((PICTURES[0].copy(),))])[0], first)
    assert found.calls["vision"] == 2


def test_nothing_is_remembered_beyond_the_limit():
    model = MODELS["grounding"]()
    found = runner(model, "split", remember=0)
    for _ in range(2):
        found.many("visual", [Query((PICTURES[0],))])
    assert found.calls["vision"] == 2


def test_a_picture_is_decoded_once_for_many_texts(monkeypatch):
    from edgevl.decodings import runner as module

    seen, make = [], module.to_tensor
    monkeypatch.setattr(module, "to_tensor", lambda *given: seen.append(given) or make(*given))
    model = MODELS["grounding"]()
    decoding_of(model).run(runner(model, "single"), [Query((PICTURES[0],), TEXTS)])
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["captioner", "prefixed", "answerer"])
def test_a_sequence_in_steps_is_the_sequence_of_a_batch(name):
    model = MODELS[name]()
    decoding = decoding_of(model)
    queries = [Query((picture,), TEXTS[:1] if model.task == "vqa" else ()) for picture in PICTURES]
    alone = [decoding.run(runner(model, "split"), [query])[0] for query in queries]
    together = decoding.run(runner(model, "split", 4), queries)
    assert [answer.result for answer in alone] == [answer.result for answer in together]
    assert len({tuple(answer.result) for answer in alone}) > 1, "the pictures matter"


def test_along_follows_the_decisions_of_the_reference():
    model = MODELS["captioner"]()
    decoding, query = decoding_of(model), Query((PICTURES[0],))
    free = decoding.run(runner(model, "split"), [query])[0]
    other = type(free)(free.values, [7, *free.result[1:]], free.margins)
    along = decoding.run(runner(model, "split"), [query], along=[other])[0]
    score = "logits"
    assert np.allclose(along.values[score][0], free.values[score][0], atol=1e-5), "the first step has seen no token yet"
    assert np.abs(along.values[score][1] - free.values[score][1]).max() > 1e-3, "the second has seen another"


@pytest.mark.parametrize(
    ("query", "words"), [(Query((), TEXTS[:1]), "picture number 1"), (Query((PICTURES[0],)), "text number 1")]
)
def test_a_query_that_lacks_something_says_so(query, words):
    model = MODELS["grounding"]()
    with pytest.raises(InputError, match=words):
        decoding_of(model).run(eager_runner(model), [query])


def test_an_unknown_value_names_the_known():
    with pytest.raises(InputError, match="box"):
        eager_runner(MODELS["grounding"]()).many("logits", [Query((PICTURES[0],), TEXTS)])


@pytest.mark.parametrize("name", MODELS)
def test_calls_fit_together(name):
    model = MODELS[name]()
    for layout in model.layouts:
        assert call_problems([program.spec.to_json() for program in model.programs(layout)]) == []


def specs_of(name: str) -> list[dict]:
    model = MODELS[name]()
    return [json.loads(program.spec.model_dump_json(by_alias=True)) for program in model.programs("split")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda specs: specs[1]["inputs"][0]["from"].update(name="nothing"), "needs the value nothing"),
        (lambda specs: specs[1]["inputs"][0].update(shape=(1, 4, 7)), "needs the value visual"),
        (lambda specs: specs[0]["outputs"].append(specs[1]["outputs"][0]), "two programs give a value"),
        (lambda specs: specs[0]["inputs"].append(loop_to(specs[1]["outputs"][0])), "depends on itself"),
    ],
)
def test_calls_that_do_not_fit_are_named(change, words):
    specs = specs_of("grounding")
    change(specs)
    problems = call_problems([ProgramSpec.model_validate(spec).to_json() for spec in specs])
    assert words in "; ".join(problems)


def test_a_value_of_a_loop_cannot_be_read_by_another_program():
    model = MODELS["captioner"]()
    specs = [program.spec.to_json() for program in model.programs("split")]
    (decoder,) = [spec for spec in specs if any(each["from"]["kind"] == "token" for each in spec["inputs"])]
    (encoder,) = [spec for spec in specs if spec is not decoder]
    encoder["inputs"].append(loop_to(decoder["outputs"][0]))
    assert "which a loop gives" in "; ".join(call_problems(specs))


def loop_to(output: dict) -> dict:
    return {**output, "name": "again", "from": {"kind": "value", "name": output["name"]}}


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "picture", "step": 1},
        {"kind": "audio"},
        {"kind": "picture", "index": -1},
        {"kind": "text", "part": "letters"},
        {"kind": "value"},
        {"kind": "state", "name": "logits"},
        {},
    ],
)
def test_an_unknown_source_or_field_is_refused(source):
    spec = specs_of("grounding")[0]
    spec["inputs"][0]["from"] = source
    with pytest.raises(ValueError):
        ProgramSpec.model_validate(spec)
