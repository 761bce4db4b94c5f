"""What goes into an artifact and comes out, as docs/bundle.md fixes it: the manifest must say so, and the file keep it.

An app takes dtype, layout and range from the manifest; nothing that verify runs would notice if they were false.
"""

from collections.abc import Iterator
from typing import Any

from edgevl.manifest import MANIFEST, Manifest, TensorSpec

Specs = tuple[TensorSpec, ...]


def tensor_specs(
    batch: int, size: int, length: int, vocab_size: int, visual: tuple[int, int], answers: int
) -> dict[str, TensorSpec]:
    """Every tensor that goes into a program of a model, or comes out, by name.

    Shapes: B `batch`, S `size`, T `length`, (V, D) `visual`, A `answers`. A target takes the picture as `image`, uint8
    pixels, or as `picture`, its platform's own type; both are called "image".
    """
    raw = TensorSpec(name="image", dtype="uint8", shape=(batch, size, size, 3), layout="NHWC", range=(0, 255))
    picture = TensorSpec(
        name="image", kind="image", dtype="float32", shape=(batch, 3, size, size), layout="NCHW", range=(0, 255)
    )
    ids = TensorSpec(name="input_ids", dtype="int32", shape=(batch, length), layout="NT", range=(0, vocab_size - 1))
    tokens = TensorSpec(name="visual", dtype="float32", shape=(batch, *visual), layout="NVD")
    logits = TensorSpec(name="logits", dtype="float32", shape=(batch, answers), layout="NA")
    return {"image": raw, "picture": picture, "input_ids": ids, "visual": tokens, "logits": logits}


def conventional(manifest: Manifest) -> dict[str, tuple[TensorSpec, ...]]:
    """The specifications that a tensor may have, by its name, from the other numbers of the manifest."""
    tokenizer, model = manifest.tokenizer, manifest.model
    specs = tensor_specs(
        manifest.batch,
        manifest.preprocessing.size,
        tokenizer.length,
        tokenizer.vocab_size,
        (model.grid**2, model.width),
        manifest.labels.count,
    )
    picture = specs.pop("picture")
    return {name: (spec, picture) if name == "image" else (spec,) for name, spec in specs.items()}


def manifest_problems(manifest: Manifest) -> list[str]:
    """Sentences that say where the manifest breaks the conventions."""
    for name in ("name", "task"):
        said, model = getattr(manifest, name), getattr(manifest.model, name)
        if said != model:
            return [f"{MANIFEST}: {name} is {said}, but model.{name} is {model}"]
    if manifest.task != "vqa":
        return []
    problems, known = [], conventional(manifest)
    for where, inputs, outputs, names in _parts(manifest):
        found = tuple(spec.name for spec in inputs), tuple(spec.name for spec in outputs)
        if found != names:
            problems.append(f"{MANIFEST}: {where} is said to take and give {found}, it must be {names}")
        for spec in (*inputs, *outputs):
            if spec not in known.get(spec.name, (spec,)):
                must = " or ".join(map(_words, known[spec.name]))
                problems.append(f"{MANIFEST}: {spec.name} of {where} is said to be {_words(spec)}, it must be {must}")
    return problems


def _parts(manifest: Manifest) -> Iterator[tuple[str, Specs, Specs, tuple[tuple[str, ...], tuple[str, ...]]]]:
    """(what, inputs, outputs, the names that these must have) of the model and of each program of a split one."""
    yield "the model", manifest.inputs, manifest.outputs, (("image", "input_ids"), ("logits",))
    names = {"vision": (("image",), ("visual",)), "fusion": (("visual", "input_ids"), ("logits",))}
    for program in manifest.programs:
        yield program.name, program.inputs, program.outputs, names[program.name]


def session_problems(manifest: Manifest, session: Any) -> list[str]:
    """Sentences that say where the opened artifact is not what the manifest says, by its runtime.

    A session takes a platform's picture as uint8 [B, S, S, 3] too.
    """
    if manifest.task != "vqa":
        return []
    opened = {spec.name: (spec.dtype, tuple(spec.shape)) for spec in (*session.inputs, *session.outputs)}
    raw, problems = conventional(manifest)["image"][0], []
    for spec in (*manifest.inputs, *manifest.outputs):
        wanted = raw if spec.kind == "image" else spec
        dtype, shape = opened.get(spec.name, ("missing", ()))
        if (dtype, shape) != (wanted.dtype, wanted.shape):
            problems.append(
                f"{manifest.artifact}: {spec.name} is {dtype} {list(shape)}, the manifest says {_words(wanted)}"
            )
    return problems


def _words(spec: TensorSpec) -> str:
    limits = f", {spec.range[0]:g} to {spec.range[1]:g}" if spec.range else ""
    return f"{spec.kind} {spec.dtype} {list(spec.shape)} {spec.layout}{limits}"
