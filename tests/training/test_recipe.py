import pytest

from edgevl.errors import InputError
from edgevl.training.recipe import RECIPES, load_recipe, parse_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_in_the_repository_parses_and_is_named_after_its_file(path):
    assert load_recipe(path).name == path.stem


def test_overrides_reach_nested_keys_and_read_exponents_as_numbers():
    recipe = load_recipe("pretrain_scenes_nano", ["optimizer.lr=3e-4", "steps=7", "losses.itm.hard=0.5"])
    assert (recipe.optimizer.lr, recipe.steps, recipe.losses["itm"]["hard"]) == (3e-4, 7, 0.5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stesp=7"], 'unknown key "stesp"; did you mean "steps"'),
        (["optimizer.lrr=1"], 'unknown key in optimizer "lrr"; did you mean "lr"'),
        (["optimizer.lr=fast"], "optimizer.lr"),
        (["steps=0"], "steps"),
        (["steps"], "key=value"),
        (["name.x=1"], '"name" is a value, not a section'),
        (["name=[x"], 'override "name=[x": the value is not readable YAML'),
        (["quantize.weight_bit=4"], 'unknown key in quantize "weight_bit"; did you mean "weight_bits"'),
        (["precision=fp16"], "precision: Input should be 'no' or 'bf16'"),
        (["data.focus=[count]"], "data.focus is for finetune and distill, not for pretrain"),
    ],
)
def test_a_wrong_override_is_one_clear_line(overrides, message):
    with pytest.raises(InputError) as error:
        load_recipe("pretrain_scenes_nano", overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_weight_of_a_part_is_one_key():
    recipe = load_recipe("pretrain_scenes_nano", ["weights.object.box_l1=3"])
    assert recipe.weights["object.box_l1"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"annotations": "boxes.jsonl"}}, "data.annotations is for pretrain, not for finetune"),
        ({"regions": 9}, "regions is for pretrain, not for finetune"),
        ({"data": {"focus": ["count"]}, "task": "statement"}, "the task statement has none"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(finetune_values, changes, message):
    with pytest.raises(InputError, match=message):
        parse_recipe(finetune_values | changes, "test")


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match='did you mean "pretrain_scenes_nano"'):
        load_recipe("pretrain_scene_nano")


def test_precision_no_is_a_word_not_false():
    assert load_recipe("pretrain_scenes_nano", ["precision=no"]).precision == "no"


def test_bad_yaml_is_one_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("stage: [pretrain\nname: x")
    with pytest.raises(InputError) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_the_stage_must_be_known(pretrain_values):
    with pytest.raises(InputError, match="stage"):
        parse_recipe(pretrain_values | {"stage": "distil"}, "test")
