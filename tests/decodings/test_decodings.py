"""Each kind of decoding: what it returns, when two results are the same, how far values are apart."""

import dataclasses

import numpy as np
import pytest
import torch

from edgevl.app.conformance.small_models import MODELS, PICTURES, TEXTS, query_for
from edgevl.contracts import Answer, Query
from edgevl.decodings import DECODINGS, decoding_of
from edgevl.decodings.box import iou
from edgevl.errors import InputError, VerificationFailed
from edgevl.runtime.eager_session import eager_runner


def answer(name):
    model = MODELS[name]()
    decoding, query = decoding_of(model), query_for(model)
    return decoding, query, decoding.run(eager_runner(model), [query])[0]


def test_classify_gives_labels_with_shares():
    decoding, query, found = answer("statement")
    assert len(found.result) == len(found.margins) == len(TEXTS) and set(found.result) <= {"false", "true"}
    rows = decoding.to_json(found, query)
    assert [row["answer"] for row in rows] == found.result
    assert all(abs(sum(share for _, share in row["scores"]) - 1) < 1e-9 for row in rows)
    assert [row["scores"][0][0] for row in rows] == found.result


def test_rank_prefers_what_is_like_the_picture():
    decoding, query, found = answer("towers")
    pictures, texts = found.values["image_embeds"], found.values["text_embeds"]
    assert np.allclose(np.linalg.norm(pictures, axis=1), 1, atol=1e-5)
    assert found.result == (pictures @ texts.T).argmax(1).tolist()
    rows = decoding.to_json(found, query, top=2)
    assert [row["answer"] for row in rows] == [query.texts[index] for index in found.result]
    assert [len(row["scores"]) for row in rows] == [2, 2, 2]


def test_rank_embeds_one_side_alone():
    model = MODELS["towers"]()
    found = decoding_of(model).run(eager_runner(model), [Query((), TEXTS), Query(tuple(PICTURES[:2]))])
    assert [list(each.values) for each in found] == [["text_embeds"], ["image_embeds"]]
    assert [each.result for each in found] == [[], []]


def test_a_label_is_the_mean_of_its_prompts():
    model = MODELS["towers"]()
    decoding, runner = decoding_of(model), eager_runner(model)
    found = decoding.label_embeddings(runner, ["dog", "red car"])  # pyright: ignore[reportAttributeAccessIssue]
    rows = np.stack(runner.many("text_embeds", [Query((), (text,)) for text in ("a dog", "the dog")]))
    mean = rows.mean(0)
    assert found.shape == (2, 16) and np.allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_generate_gives_text_until_the_stop_token():
    decoding, query, found = answer("captioner")
    tokens = [*found.result[:2], decoding.fields.stop, 9]  # pyright: ignore[reportAttributeAccessIssue]
    (row,) = decoding.to_json(Answer(found.values, tokens), query)
    words = decoding.model.texts["main"]  # pyright: ignore[reportAttributeAccessIssue]
    assert row == {"answer": words.decode(found.result[:2]), "tokens": tokens}


def test_generate_takes_one_text_at_a_time():
    model = MODELS["answerer"]()
    with pytest.raises(InputError, match="one text"):
        decoding_of(model).run(eager_runner(model), [Query((PICTURES[0],), TEXTS)])


def test_boxes_are_corners_inside_the_picture():
    _, _, found = answer("grounding")
    x, y, width, height = found.values["box"][0].astype(float)
    expected = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 1)
    assert np.allclose(found.result[0], expected, atol=1e-6) and len(found.result) == 3


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3), ((0, 0, 1, 1), (2, 2, 3, 3), 0), ((0, 0, 1, 1), (0, 0, 1, 1), 1),
     ((1, 1, 1, 1), (1, 1, 1, 1), 1), ((1, 1, 1, 1), (2, 2, 2, 2), 0)],
)  # fmt: skip
def test_iou(a, b, share):
    assert iou(a, b) == pytest.approx(share)


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_is_the_same_as_itself_and_not_as_another(name):
    decoding, _, found = answer(name)
    tolerance = dict.fromkeys(found.values, 1e-06)
    assert decoding.same(found, found, tolerance) and decoding.agreement([found], [found]) == 1
    model = MODELS[name]()
    pictures = tuple(PICTURES[3] for _ in query_for(model).pictures)
    turned = decoding.run(eager_runner(model), [dataclasses.replace(query_for(model), pictures=pictures)])[0]
    assert turned.result == found.result or not decoding.same(turned, found, tolerance)


def test_agreement_counts_decisions():
    decoding, _, found = answer("statement")
    other = dataclasses.replace(found, result=["neither", *found.result[1:]])
    assert decoding.agreement([other, found], [found, found]) == pytest.approx(5 / 6)


def test_a_decision_that_was_close_is_not_compared():
    decoding, _, found = answer("statement")
    other = dataclasses.replace(found, result=["true" if label == "false" else "false" for label in found.result])
    assert not decoding.same(other, found, {"logits": min(found.margins) / 2.1})
    assert decoding.same(other, found, {"logits": max(found.margins)})


def test_a_sequence_is_compared_up_to_the_first_close_decision():
    decoding, _, found = answer("captioner")
    other = dataclasses.replace(found, result=[*found.result[:2], 7, 7, 7, 7])
    margins = (9.0, 9.0, 0.1, 9.0, 9.0, 9.0)
    reference = dataclasses.replace(found, result=[*found.result[:2], 8, 8, 8, 8], margins=margins)
    assert decoding.same(other, reference, {"logits": 0.1})
    assert not decoding.same(other, reference, {"logits": 0.01})


@pytest.mark.parametrize("name", MODELS)
def test_divergence_is_zero_for_equal_values_and_has_a_gradient(name):
    decoding, _, found = answer(name)
    reference = {value: torch.from_numpy(np.array(array)) for value, array in found.values.items()}
    own = {value: (tensor + 0.1 * torch.randn_like(tensor)).requires_grad_() for value, tensor in reference.items()}
    assert abs(float(decoding.divergence(reference, reference))) < 1e-6
    distance = decoding.divergence(own, reference)
    distance.backward()
    assert float(distance) > 0 and all(tensor.grad is not None for tensor in own.values())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("change", ["unknown", "missing", "kind"])
def test_a_field_that_is_unknown_or_missing_is_refused(name, change):
    model = MODELS[name]()
    fields = dict(model.decoding)
    if change == "unknown":
        fields["rerank"] = True
    elif change == "missing":
        del fields["picture" if fields["kind"] == "rank" else "output"]
    else:
        fields["kind"] = "guess"
    with pytest.raises(InputError, match=r"rerank|picture|output|Known: box, classify, generate, rank"):
        decoding_of(dataclasses.replace(model, decoding=fields))


def test_classify_needs_labels_that_fit():
    model = MODELS["statement"]()
    with pytest.raises(InputError, match="needs labels"):
        decoding_of(dataclasses.replace(model, labels=None))
    wrong = dataclasses.replace(model, labels=["a", "b", "c"])
    with pytest.raises(VerificationFailed, match="do not fit the labels"):
        decoding_of(wrong).run(eager_runner(wrong), [query_for(model)])


def test_the_kinds_are_registered():
    decoding_of(MODELS["statement"]())
    assert {"box", "classify", "generate", "rank"} <= set(DECODINGS)
