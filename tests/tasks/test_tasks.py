"""Each task: samples of a record, and scores of answers whose truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgevl.app.conformance.small_models import MODELS
from edgevl.contracts import Answer, Query, Record, Sample
from edgevl.data.photos import PhotoQuestion
from edgevl.data.scenes.questions import Question
from edgevl.decodings import DECODINGS, decoding_of
from edgevl.errors import InputError
from edgevl.tasks import TASKS, task_named
from edgevl.tasks.caption import word_f1
from edgevl.tasks.metrics import bootstrap, share, wilson
from edgevl.tasks.retrieval import ranks

PICTURE = np.zeros((8, 8, 3), np.uint8)
QUESTION = SimpleNamespace(text="is there a dog?", answer="yes", kind="exists")
RECORD = Record(
    "7",
    (PICTURE,),
    questions=[QUESTION, SimpleNamespace(text="what is red?", answer="car", kind="what")],
    captions=["a dog", "a red car beside a dog", "two things"],
    statements=[SimpleNamespace(text="there is a dog", label=True), SimpleNamespace(text="no dog", label=False)],
    phrases=[SimpleNamespace(text="the dog", box=(0.1, 0.1, 0.5, 0.5))],
)
NOTHING = Record("8", (PICTURE,))


@pytest.mark.parametrize(
    ("name", "texts", "targets"),
    [
        ("vqa", [("is there a dog?",), ("what is red?",)], [("yes",), ("car",)]),
        ("statement", [("there is a dog",), ("no dog",)], [("yes",), ("no",)]),
        ("retrieval", [("a red car beside a dog",)], [None]),
        ("caption", [()], [("a dog", "a red car beside a dog", "two things")]),
        ("grounding", [("the dog",)], [(0.1, 0.1, 0.5, 0.5)]),
    ],
)
def test_samples_of_a_record(name, texts, targets):
    task = task_named(name)
    found = task.samples(RECORD)
    assert [sample.query.texts for sample in found] == texts and [sample.target for sample in found] == targets
    assert all(sample.query.pictures == (PICTURE,) and sample.group == "7" for sample in found)
    assert task.samples(NOTHING) == []
    assert len(task.samples(RECORD, 1)) == 1


def test_names_aliases_and_decodings():
    assert task_named("visual-question-answering").name == "vqa"
    assert task_named("zero-shot-image-classification").name == "retrieval"
    with pytest.raises(InputError, match='did you mean "vqa"'):
        task_named("vqaa")
    decoding_of(MODELS["statement"]())
    for name in TASKS:
        assert set(TASKS[name].decodings) <= set(DECODINGS)


def classified(*labels: str) -> list[Answer]:
    return [Answer({}, [label]) for label in labels]


def test_accuracy_by_kind_with_an_interval():
    samples = [
        Sample(Query(), "yes", "exists", "1"),
        Sample(Query(), "no", "exists", "2"),
        Sample(Query(), "car", "what", "3"),
    ]
    decoding = decoding_of(MODELS["statement"]())
    (metric,) = task_named("vqa").score(classified("yes", "yes", "car"), samples, decoding)
    assert metric.value == pytest.approx(2 / 3) and metric.samples == 3
    assert metric.per_kind == {"exists": (0.5, 2), "what": (1.0, 1)} and metric.ci95 == wilson(2, 3)


def test_an_answer_can_be_generated():
    model = MODELS["answerer"]()
    decoding, words = decoding_of(model), model.texts["main"]
    tokens = [*words.encode("red car")[1:3].tolist(), decoding.fields.stop]  # pyright: ignore[reportAttributeAccessIssue]
    samples = [Sample(Query(), "red car"), Sample(Query(), "dog")]
    (metric,) = task_named("vqa").score([Answer({}, tokens), Answer({}, tokens)], samples, decoding)
    assert metric.value == 0.5


def test_any_of_several_right_answers_counts():
    asked = [
        PhotoQuestion("all", "what is it?", "car", ("car", "automobile")),
        PhotoQuestion("all", "what is it?", "cat", ("cat",)),
        Question("what", "what is it?", "dog"),
    ]
    samples = task_named("vqa").samples(Record("1", ("picture",), asked))
    assert [sample.target for sample in samples] == [("car", "automobile"), ("cat",), ("dog",)]
    (metric,) = task_named("vqa").score(
        classified("automobile", "cats", "dog"), samples, decoding_of(MODELS["statement"]())
    )
    assert metric.value == pytest.approx(2 / 3)


def test_samples_of_one_picture_are_not_independent():
    right = [True] * 50 + [False] * 50
    alone = share("accuracy", right, [Sample(Query(), "", group=str(index)) for index in range(100)])
    grouped = share("accuracy", right, [Sample(Query(), "", group=str(index // 10)) for index in range(100)])
    assert alone.ci95 == wilson(50, 100)
    assert grouped.ci95[1] - grouped.ci95[0] > 2 * (alone.ci95[1] - alone.ci95[0])
    assert bootstrap(np.ones(4), ["", "", "", ""]) == (1.0, 1.0)


def embedded(pictures: np.ndarray, texts: np.ndarray) -> list[Answer]:
    return [Answer({"image_embeds": p[None], "text_embeds": t[None]}, []) for p, t in zip(pictures, texts)]


def test_recall_of_both_directions():
    decoding, task = decoding_of(MODELS["towers"]()), task_named("retrieval")
    pictures = np.eye(16, dtype=np.float32)
    texts = pictures.copy()
    texts[0] = pictures[1] + 0.5 * pictures[0]  # is nearest to another's picture, its own comes second
    samples = [Sample(Query(), None, group=str(index)) for index in range(16)]
    metrics = {metric.name: metric.value for metric in task.score(embedded(pictures, texts), samples, decoding)}
    assert metrics["text_to_image_r1"] == pytest.approx(15 / 16) and metrics["text_to_image_r5"] == 1
    assert metrics["image_to_text_r1"] == pytest.approx(15 / 16)
    assert next(iter(metrics)) == "text_to_image_r1", "the first metric is what budgets are in"


def test_captions_of_one_picture_are_all_right():
    decoding, task = decoding_of(MODELS["towers"]()), task_named("retrieval")
    pictures = np.repeat(np.eye(2, 16, dtype=np.float32), 2, axis=0)
    samples = [Sample(Query(), None, group=str(index // 2)) for index in range(4)]
    metrics = {metric.name: metric.value for metric in task.score(embedded(pictures, pictures), samples, decoding)}
    assert metrics["text_to_image_r1"] == metrics["image_to_text_r1"] == 1


def test_embeddings_that_are_all_equal_find_nothing():
    assert ranks(np.ones((5, 5)), np.arange(5)).tolist() == [4] * 5


def test_embeddings_that_are_not_finite_are_refused():
    decoding, task = decoding_of(MODELS["towers"]()), task_named("retrieval")
    broken = np.full((2, 16), np.nan, np.float32)
    with pytest.raises(InputError, match="not finite"):
        task.score(embedded(broken, broken), [Sample(Query(), None)] * 2, decoding)


@pytest.mark.parametrize(
    ("own", "reference", "value"),
    [("a red car", "A red car", 1), ("car", "a red car", 0.5), ("", "a car", 0), ("dog", "car", 0)],
)
def test_word_f1(own, reference, value):
    assert word_f1(own, reference) == pytest.approx(value)


def test_grounding_wants_half_of_the_union():
    decoding, task = decoding_of(MODELS["grounding"]()), task_named("grounding")
    samples = [Sample(Query(), (0.0, 0.0, 0.5, 0.5))] * 2
    answers = [Answer({}, [[0.0, 0.0, 0.5, 0.4]]), Answer({}, [[0.5, 0.5, 1.0, 1.0]])]
    (metric,) = task.score(answers, samples, decoding)
    assert metric.name == "accuracy_iou50" and metric.value == 0.5


EMBEDDED = {"image_embeds": torch.randn(3, 8), "text_embeds": torch.randn(3, 8), "scale": torch.ones(1)}


@pytest.mark.parametrize(
    ("name", "values", "batch"),
    [
        ("vqa", {"logits": torch.randn(4, 5)}, {"answers": torch.tensor([[0, 1], [2, 3]])}),
        ("caption", {"logits": torch.randn(2, 3, 5)}, {"tokens": torch.tensor([[1, 2, 0], [3, 0, 0]])}),
        ("grounding", {"box": torch.rand(3, 4)}, {"boxes": torch.rand(3, 4)}),
        ("retrieval", EMBEDDED, {}),
    ],
)  # fmt: skip
def test_losses_have_gradients(name, values, batch):
    values = {key: value.requires_grad_() for key, value in values.items()}
    losses = task_named(name).losses(values, batch)
    sum(losses.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert losses and all(value.grad is not None and value.grad.abs().sum() > 0 for value in values.values())
