"""What the sizes of a model of our family must be, given each other, and the rest of a manifest of schema 1.

Shared by EdgeVL and the board's script. Python 3.8, the standard library only. Every function takes parsed JSON that
fits bundle-1.schema.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_GRID = 128  # visual tokens along one side
MAX_PARAMETERS = 2**30  # without the backbone
LARGEST_OPTION = 4096  # of a number in `backbone_options`
# Options of timm that no config may have: weights come from model.safetensors alone, maps from `out_index`.
NO_OPTIONS = {
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "scriptable",
    "exportable", "no_jit", "features_only", "out_indices",
}  # fmt: skip
WHOLE_MODEL = (("image", "input_ids"), ("logits",))  # names of the inputs and outputs, in this order
OF_PROGRAM = {"vision": (("image",), ("visual",)), "fusion": (("visual", "input_ids"), ("logits",))}


def model_problem(model: dict[str, Any]) -> str:
    """Where the sizes of `model`, each within its range, do not fit together; "" if they do."""
    if model["image_size"] % model["stride"]:
        return f"image_size {model['image_size']} is not a multiple of the stride {model['stride']}"
    if model["width"] % model["heads"]:
        return f"width {model['width']} is not a multiple of heads {model['heads']}"
    grid = model["image_size"] // model["stride"]
    if grid > MAX_GRID:
        return (
            f"image_size {model['image_size']} and stride {model['stride']} make {grid} visual tokens along a side, "
            f"at most {MAX_GRID} are allowed"
        )
    if parameters_of(model) > MAX_PARAMETERS:
        return (
            f"width {model['width']}, depth {model['depth']} and mlp_ratio {model['mlp_ratio']} make "
            f"{parameters_of(model):,} parameters, at most {MAX_PARAMETERS:,} are allowed: lower one of them"
        )
    return ""


def parameters_of(model: dict[str, Any]) -> int:
    """Numbers that the model learns, counted from the sizes alone: those of the backbone are not in it."""
    block = (4 + 2 * model["mlp_ratio"]) * model["width"] ** 2
    grid = model["image_size"] // model["stride"]
    tokens = model["vocab_size"] + model["num_answers"] + model["text_length"] + grid**2
    return model["depth"] * block + tokens * model["width"]


def manifest_problems(manifest: dict[str, Any]) -> Iterator[str]:
    """Sentences that say where a manifest of schema 1 breaks its conventions."""
    model, expected = manifest["model"], specs_of(manifest)
    problem = model_problem(model) or options_problem(model["backbone_options"])
    if problem:
        yield f"model: {problem}"
    for (name, one), (other, two) in pairs_of(manifest):
        if one != two:
            yield f"{name} is {one}, but {other} is {two}"
    if manifest["tokenizer"]["vocab_size"] > model["vocab_size"]:
        yield "tokenizer.vocab_size is more than model.vocab_size"
    for part, names in parts_of(manifest):
        for key, wanted in zip(("inputs", "outputs"), names):
            if tuple(spec["name"] for spec in part[key]) != wanted:
                yield f"the {key} must be {', '.join(wanted)}"
            for spec in part[key]:
                spec = {"kind": "tensor", "range": None, **spec}
                if spec["name"] in expected and spec not in expected[spec["name"]]:
                    yield f"{spec['name']} is said to be {spec}, it must be {expected[spec['name']][0]}"


def pairs_of(manifest: dict[str, Any]) -> Iterator[tuple[tuple[str, Any], tuple[str, Any]]]:
    """((place, value), (place, value)) of what is said twice and must be the same."""
    model = manifest["model"]
    for key in ("name", "task"):
        yield (key, manifest[key]), (f"model.{key}", model[key])
    yield ("task", manifest["task"]), ("the task of schema 1", "vqa")
    yield ("preprocessing.size", manifest["preprocessing"]["size"]), ("model.image_size", model["image_size"])
    yield ("tokenizer.length", manifest["tokenizer"]["length"]), ("model.text_length", model["text_length"])
    yield ("labels.count", manifest["labels"]["count"]), ("model.num_answers", model["num_answers"])


def options_problem(options: Any) -> str:
    """What no option of the backbone may be; "" if there is nothing of that kind."""
    if isinstance(options, dict) and NO_OPTIONS & options.keys():
        return f"backbone_options holds {sorted(NO_OPTIONS & options.keys())[0]}"
    inner = options.values() if isinstance(options, dict) else options if isinstance(options, list) else ()
    if isinstance(options, (int, float)) and not abs(options) <= LARGEST_OPTION:
        return f"backbone_options holds a number beyond {LARGEST_OPTION}"
    return next(filter(None, map(options_problem, inner)), "")


def parts_of(manifest: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """(where `inputs` and `outputs` stand, the names that they must have) of the model and of each program."""
    yield manifest, WHOLE_MODEL
    for program in manifest.get("programs") or []:
        yield program, OF_PROGRAM[program["name"]]


def specs_of(manifest: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What each tensor may be, by its name. Shapes: B batch, S side, T tokens, V visual tokens, D width, A answers."""
    model, tokenizer = manifest["model"], manifest["tokenizer"]
    batch, size = manifest["inputs"][0]["shape"][0], manifest["preprocessing"]["size"]
    tokens, last = (model["image_size"] // model["stride"]) ** 2, tokenizer["vocab_size"] - 1
    return {
        "image": [
            _spec("image", "uint8", [batch, size, size, 3], "NHWC", [0, 255]),
            {**_spec("image", "float32", [batch, 3, size, size], "NCHW", [0, 255]), "kind": "image"},
        ],
        "input_ids": [_spec("input_ids", "int32", [batch, tokenizer["length"]], "NT", [0, last])],
        "visual": [_spec("visual", "float32", [batch, tokens, model["width"]], "NVD")],
        "logits": [_spec("logits", "float32", [batch, manifest["labels"]["count"]], "NA")],
    }


def _spec(name: str, dtype: str, shape: list[int], layout: str, limits: Any = None) -> dict[str, Any]:
    return {"name": name, "kind": "tensor", "dtype": dtype, "shape": shape, "layout": layout, "range": limits}
