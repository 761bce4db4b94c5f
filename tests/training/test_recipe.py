import json

import pytest

from edgevl.errors import InputError
from edgevl.training.recipe import RECIPES, load_recipe, parse_recipe
from edgevl.training.yaml_file import dump_yaml


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
        (["steps=[x"], 'override "steps=[x": the value is not readable YAML'),
        (["name=../../x"], "the recipe's name is '../../x': a name has 1 to 64 of the characters"),
        (["name=a b"], "the recipe's name is 'a b'"),
        (["batch_size=1000000000"], "batch_size: Input should be less than or equal to 16384 (given: 1000000000)"),
        (["batch_size=" + "9" * 5000], "a number of 5000 characters"),
        (["steps=yes"], "steps: Input should be a valid integer"),
        (["optimizer.lr=.inf"], ".inf is not a finite number"),
        (["optimizer.lr=1e999"], "1e999 is not a finite number"),
        (["optimizer.lr=11"], "optimizer.lr: Input should be less than or equal to 10"),
        (["optimizer.lr=nan"], "optimizer.lr: Input should be a finite number"),
        (["weights.object=-1"], "weights.object: Input should be greater than or equal to 0"),
        (["weights.object=.nan"], ".nan is not a finite number"),
        (["losses.itm.weight=1e9"], "losses.itm.weight is 1000000000.0: it must be a number from -1e+06 to 1e+06"),
        (["k" * 50_000 + "=1"], 'unknown key "kkk'),
        (["seed=-1"], "seed: Input should be greater than or equal to 0"),
        (["steps=100000000"], "steps: Input should be less than or equal to 99999999"),
        (["data.workers=1000"], "data.workers: Input should be less than or equal to 64"),
        (["data.train=" + "x" * 5000], "data.train: String should have at most 4096 characters"),
        (["optimizer=" + "{a: " * 20 + "}" * 20], "more than 16 levels"),
        (["quantize.weight_bit=4"], 'unknown key in quantize "weight_bit"; did you mean "weight_bits"'),
        (["precision=fp16"], "precision: Input should be 'no' or 'bf16'"),
        (["data.focus=[count]"], "data.focus is for finetune and distill, not for pretrain"),
    ],
)
def test_a_wrong_override_is_one_clear_line(overrides, message):
    with pytest.raises(InputError) as error:
        load_recipe("pretrain_scenes_nano", overrides)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 900


@pytest.mark.parametrize("text", ["2024-11-29", "1e3", "yes", "no", "007", "3", "null", "1.5", "0x10"])
def test_a_text_stays_text_whatever_it_looks_like(text, tmp_path):
    overrides = [f"name={text}", f"model.name={text}", f"data.region_cache={text}"]
    recipe = load_recipe("pretrain_scenes_nano", overrides)
    found = (recipe.name, recipe.model["name"], recipe.data.region_cache)
    assert found == (text, text, text)
    again = tmp_path / "recipe.yaml"
    again.write_text(dump_yaml(json.loads(recipe.model_dump_json())), encoding="utf-8")
    assert load_recipe(again) == recipe
    plain = f"stage: pretrain\nname: {text}\nmodel: {{name: {text}}}\ndata: {{region_cache: {text}}}\n"
    again.write_text(plain, encoding="utf-8")
    recipe = load_recipe(again)
    assert (recipe.name, recipe.model["name"], recipe.data.region_cache) == (text, text, text)


def test_what_is_no_text_is_read_as_a_number_a_truth_value_or_nothing():
    quantize = ["init=nano", "quantize.per_channel=no", "quantize.samples=1e2", "stop_after=null"]
    recipe = load_recipe("finetune_scenes_nano", quantize)
    assert recipe.quantize and (recipe.quantize.per_channel, recipe.quantize.samples) == (False, 100)
    assert recipe.stop_after is None
    assert load_recipe("finetune_scenes_nano", ["init=null"]).init is None
    assert load_recipe("finetune_scenes_nano", ['name="3"', "data.focus=[count, exists]"]).data.focus[0] == "count"


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
    path.write_text("stage: [pretrain\nname: x", encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_the_stage_must_be_known(pretrain_values):
    with pytest.raises(InputError, match="stage"):
        parse_recipe(pretrain_values | {"stage": "distil"}, "test")
