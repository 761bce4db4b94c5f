"""What the tensors of a manifest must be, and where each input of its programs comes from: the rules of docs/bundle.md.

An app takes dtype, layout and range from the manifest, and nothing that runs would notice if they were false: so every
reader checks them. Shared by EdgeVL and the board's script. Python 3.8, the standard library only. Every function takes
parsed JSON that fits bundle.schema.json. Shapes: B batch, S side of a picture, T text tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Spec = dict[str, Any]

# Kind of decoding -> definition of its fields in bundle.schema.json.
DECODING_FIELDS = {
    "classify": "ClassifyFields",
    "rank": "RankFields",
    "generate": "GenerateFields",
    "box": "BoxFields",
}
WHOLE = ("int32", "int64")  # of token ids, masks, steps
_STEPPING = ("state", "token", "step")  # sources of a program that is run once for a token


def interface_problems(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each way in which the programs of a manifest, schema 2, break the rules."""
    programs = manifest["programs"]
    yield from filter(None, map(edge_problem, manifest["image_processing"].values()))
    if len({program["name"] for program in programs}) != len(programs):
        yield "two programs have one name"
    if manifest["precision"] not in [program["precision"] for program in programs]:
        yield f"no program is of the precision {manifest['precision']}"
    yield from call_problems(programs)
    for program in programs:
        yield from program_problems(program)
        for spec in program["inputs"]:
            yield from _input_problems(program, spec, manifest)
        if program["name"] != manifest["decoding"].get("program") and _steps(program):
            yield f"{program['name']} reads states, tokens or steps, which only the program of a loop may"


def edge_problem(processing: Spec) -> str:
    """Say where the shortest edge of an image processing does not fit; "" if it does."""
    edge, size = processing.get("shortest_edge"), processing["size"]
    if edge is not None and processing["geometry"] != "shortest-edge":
        return f"shortest_edge does not go with the geometry {processing['geometry']}"
    return f"shortest_edge {edge} is below the size {size}" if (edge or size) < size else ""


def call_problems(programs: Sequence[Spec]) -> list[str]:
    """Return a sentence for each source that no program gives, that does not fit, or that depends on itself.

    A state is no dependency: it comes from the step before.
    """
    makers = {spec["name"]: program["name"] for program in programs for spec in program["outputs"]}
    if len(makers) != sum(len(program["outputs"]) for program in programs):
        return ["two programs give a value of the same name"]
    given = {spec["name"]: spec for program in programs for spec in program["outputs"]}
    loops = {program["name"] for program in programs if _steps(program)}
    problems = []
    for program in programs:
        for spec in program["inputs"]:
            for name in _needs(spec):
                if makers.get(name) in loops:
                    problems.append(f"{program['name']}: {spec['name']} needs the value {name}, which a loop gives")
                elif not _same_row(spec, given.get(name)):
                    problems.append(
                        f"{program['name']}: {spec['name']} needs the value {name}, which no program gives so"
                    )
    return problems or [f"{name} depends on itself" for name in _cyclic(programs, makers)]


def _steps(program: Spec) -> bool:
    """Say if a program is run once for a token."""
    return any(spec["from"]["kind"] in _STEPPING for spec in program["inputs"])


def _needs(spec: Spec) -> list[str]:
    """Values of other programs that an input reads."""
    source = spec["from"]
    if source["kind"] == "value":
        return [source["name"]]
    return [source["start"]] if source["kind"] == "state" and source.get("start") else []


def _same_row(spec: Spec, other: Spec | None) -> bool:
    """Equal but for the batch, which each program has its own of."""
    return other is not None and (spec["dtype"], spec["shape"][1:]) == (other["dtype"], other["shape"][1:])


def _cyclic(programs: Sequence[Spec], makers: dict[str, str]) -> list[str]:
    """Names of programs that are never ready, whatever is computed first."""
    needs = {
        program["name"]: {makers[name] for spec in program["inputs"] for name in _needs(spec)} for program in programs
    }
    while True:
        ready = [name for name, others in needs.items() if not others & needs.keys()]
        if not ready:
            return sorted(needs)
        for name in ready:
            del needs[name]


def program_problems(program: Spec) -> Iterator[str]:
    """Yield where the tensors of one program do not fit each other."""
    tensors = [*program["inputs"], *program["outputs"]]
    names = [spec["name"] for spec in tensors]
    if len(set(names)) != len(names):
        yield f"{program['name']} has two tensors of one name"
    if len({spec["shape"][0] for spec in tensors}) != 1:
        yield f"the tensors of {program['name']} have different batches"
    for spec in tensors:
        if len(spec["layout"]) != len(spec["shape"]):
            yield f'{program["name"]}: the layout "{spec["layout"]}" of {spec["name"]} does not fit its shape'
    given = {spec["name"]: spec for spec in program["outputs"]}
    for spec in program["inputs"]:
        if spec["from"]["kind"] == "state":
            other = given.get(spec["from"]["name"])
            if other is None or (spec["dtype"], spec["shape"]) != (other["dtype"], other["shape"]):
                yield f"{program['name']}: the state {spec['name']} does not fit an output {spec['from']['name']}"


def _input_problems(program: Spec, spec: Spec, manifest: dict[str, Any]) -> Iterator[str]:
    """Where one input is not what its source gives."""
    where, source, batch = f"{program['name']}: {spec['name']}", spec["from"], spec["shape"][0]
    kind = source["kind"]
    if kind == "picture":
        processing = manifest["image_processing"].get(source.get("processing", "main"))
        wanted = processing and pictures_of(batch, processing["size"])
    elif kind == "text":
        processing = manifest["text_processing"].get(source.get("processing", "main"))
        wanted = processing and _texts_of(batch, processing, source.get("part", "ids"))
    else:
        processing, wanted = "", _numbers_of(batch) if kind in ("token", "step") else None
    if processing is None:
        yield f'{where} names the processing "{source.get("processing", "main")}", there is none'
    if spec.get("kind", "tensor") == "image" and kind != "picture":
        yield f"{where} is said to be a picture, but comes from a {kind}"
    found = _tensor(spec)
    if kind in ("token", "step") and found["range"] and found["range"][0] == 0:
        found["range"] = None  # up to where tokens and steps go may be said
    if wanted and found not in wanted:
        yield f"{where} is said to be {_words(found)}, it must be {' or '.join(map(_words, wanted[:2]))}"


def pictures_of(batch: int, size: int) -> list[Spec]:
    """Return what a picture may go in as: uint8 pixels, or the platform's own type."""
    return [
        {"kind": "tensor", "dtype": "uint8", "shape": [batch, size, size, 3], "layout": "NHWC", "range": [0, 255]},
        {"kind": "image", "dtype": "float32", "shape": [batch, 3, size, size], "layout": "NCHW", "range": [0, 255]},
    ]


def _texts_of(batch: int, processing: Spec, part: str) -> list[Spec]:
    limits = [0, processing["vocab_size"] - 1 if part == "ids" else 1]
    shape = [batch, processing["length"]]
    return [{"kind": "tensor", "dtype": each, "shape": shape, "layout": "NT", "range": limits} for each in WHOLE]


def _numbers_of(batch: int) -> list[Spec]:
    """A number for each sample, with a side of 1 or without."""
    shapes = (([batch, 1], "NT"), ([batch], "N"))
    return [
        {"kind": "tensor", "dtype": dtype, "shape": shape, "layout": layout, "range": None}
        for dtype in WHOLE
        for shape, layout in shapes
    ]


def _tensor(spec: Spec) -> Spec:
    keys = ("dtype", "shape", "layout")
    return {"kind": spec.get("kind", "tensor"), **{key: spec[key] for key in keys}, "range": spec.get("range")}


def _words(spec: Spec) -> str:
    limits = f", {spec['range'][0]:g} to {spec['range'][1]:g}" if spec["range"] else ""
    return f"{spec['kind']} {spec['dtype']} {spec['shape']} {spec['layout']}{limits}"
