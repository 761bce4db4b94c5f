"""ViLT against transformers' own code, and its pipeline from bytes to an answer."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from edgevl.bench.harness import Stopwatch
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import Query, run_pipeline
from edgevl.bench.vilt_pipeline import ViltPipeline, export_vilt
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.vilt import Vilt, ViltConfig, build_vilt

TINY = ViltConfig(text_length=8, num_answers=5, image_size=64, patch=16, width=24, depth=3, heads=4, vocab_size=50)
PIPELINE = dataclasses.replace(TINY, vocab_size=200)  # all ids of the test's tokenizer


def test_logits_are_those_of_transformers():
    """Same weights, same logits. Our keys have no bias: it shifts all logits of a query alike."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    theirs = transformers.ViltForQuestionAnswering(
        transformers.ViltConfig(
            hidden_size=TINY.width, num_hidden_layers=TINY.depth, num_attention_heads=TINY.heads,
            intermediate_size=4 * TINY.width, image_size=TINY.image_size, patch_size=TINY.patch,
            vocab_size=TINY.vocab_size, max_position_embeddings=TINY.text_length, num_labels=TINY.num_answers,
            max_image_length=-1, layer_norm_eps=1e-5, initializer_range=0.3,
        )
    ).eval()  # fmt: skip
    for name, parameter in theirs.named_parameters():
        if name.endswith(("bias", "position_embeddings", "cls_token")):
            torch.nn.init.normal_(parameter, std=0.2)  # fresh ones are zero and would hide a mistake
    ours = build_vilt(TINY)
    copy_weights(theirs, ours)
    image = torch.from_numpy(make_photo(64, 64).copy())[None]
    ids = torch.tensor([[2, 9, 31, 3, 0, 0, 0, 0]])
    pixels = image.float().permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=(ids != 0).long(), pixel_values=pixels).logits
        logits = ours(image, ids)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)


def copy_weights(theirs, ours) -> None:
    source = theirs.vilt
    words, visual = source.embeddings.text_embeddings, source.embeddings
    pairs = [
        (ours.words, words.word_embeddings), (ours.word_norm, words.LayerNorm), (ours.pooler, source.pooler.dense),
        (ours.patches, visual.patch_embeddings.projection), (ours.fusion.norm, source.layernorm),
        *zip(ours.head, theirs.classifier, strict=True),
    ]  # fmt: skip
    for block, layer in zip(ours.fusion.blocks, source.encoder.layer, strict=True):
        attention = layer.attention.attention
        pairs += [
            (block.attention_norm, layer.layernorm_before), (block.mlp_norm, layer.layernorm_after),
            (block.attention.query, attention.query), (block.attention.value, attention.value),
            (block.attention.out, layer.attention.output.dense),
            (block.mlp[0], layer.intermediate.dense), (block.mlp[2], layer.output.dense),
        ]  # fmt: skip
        block.attention.key.weight.data = attention.key.weight.data
    for target, module in pairs:
        target.load_state_dict(module.state_dict())
    ours.word_position.data = words.position_embeddings.weight.data
    ours.word_type.data = words.token_type_embeddings.weight.data[0]
    ours.modality.data = visual.token_type_embeddings.weight.data
    ours.cls.data, ours.position.data = visual.cls_token.data, visual.position_embeddings.data


def test_the_published_size():
    config = ViltConfig(text_length=24, num_answers=3129)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Vilt(config).parameters())
    assert 117e6 < count < 119e6  # transformers' ViLT-B/32 for VQA has 117.6 million, with 40 positions and key biases


def test_pipeline_answers_from_bytes_and_words(tmp_path):
    export_vilt(tmp_path, PIPELINE)
    Tokenizer.from_words(["what", "color"]).save(tmp_path / "tokenizer.json")
    (tmp_path / "labels.json").write_text(json.dumps(["a", "b", "c", "d", "e"]), encoding="utf-8")
    pipeline, watch = ViltPipeline(tmp_path, threads=1), Stopwatch()
    query = Query(encode(make_photo(90, 120), "PNG"), "what color?")
    assert run_pipeline(pipeline, query, watch) in "abcde"
    assert list(watch.stages) == ["decode", "resize", "tokenize", "model", "answer"]
    assert pipeline.notes[0] == "untrained weights: only time is claimed" and "16 patches" in pipeline.notes[1]
    inputs = pipeline.prepare(query, Stopwatch())
    with torch.no_grad():
        expected = build_vilt(PIPELINE)(
            *(torch.from_numpy(np.array(inputs.arrays[name])) for name in ("image", "input_ids"))
        )
    np.testing.assert_allclose(
        pipeline.infer(inputs, Stopwatch()).values["logits"], expected.numpy(), rtol=1e-3, atol=1e-4
    )
