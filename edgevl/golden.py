"""Golden cases: pictures and questions with the exact tensor, token ids and logits that belong to them.

Every app in every language replays them, so that its decoding, resizing and tokenizing are known
to be those of training. The logits are those of the float PyTorch model; `tolerance` says how far the artifact's may
be from them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from edgevl.apps.jetson.wordpiece import MAX_PIECES
from edgevl.bundle import Bundle
from edgevl.errors import InputError
from edgevl.manifest import Part, Real, RelativePath, Sha256, Text, parse_json, read_text, validate
from edgevl.preprocess import load_image, to_pixels
from edgevl.runtime.session import run_one

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel
    from edgevl.data.scenes import Question
    from edgevl.runtime.session import Session

GOLDEN = "golden.json"
PLAIN_CASES = 4
_CANDIDATES = 16  # scenes looked at for the plain cases
_FIRST_SCENE = 1_000_000  # of "test": far from the samples that accuracy is measured on
# Largest difference of a logit that a precision may make, as a share of the largest absolute golden logit. Measured on
# nano and on the random model of the tests: fp16 up to 0.0008, w8 0.012, w4 0.07 by blocks and 0.17 by palette (ONNX
# Runtime, Core ML's reference executor). A phone's half precision sums less exactly, hence the room. A scale of one
# tensor that is 1.5 times too large makes 0.1 to 0.5. w8a8: up to 0.023, over all targets.
RELATIVE_TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "w8": 0.05, "w8a8": 0.1, "w4": 0.3}


TokenId = Annotated[int, Field(ge=0, le=MAX_PIECES - 1)]


class GoldenCase(Part):
    image: RelativePath
    question: Text
    pixels_sha256: Sha256  # of the uint8 [S, S, 3] tensor's bytes in C order
    input_ids: Annotated[
        tuple[Annotated[int, Field(ge=0, le=MAX_PIECES - 1)], ...], Field(min_length=2, max_length=4096)
    ]
    logits: Annotated[tuple[Real, ...], Field(min_length=1, max_length=2**20)]
    answer: Text
    margin: Real  # best logit minus second best; below twice the tolerance the answer is not compared


class GoldenFile(Part):
    schema_version: Literal[1] = 1
    tolerance: Annotated[float, Field(gt=0, le=1e6)]  # largest absolute difference of a logit
    cases: Annotated[tuple[GoldenCase, ...], Field(min_length=1, max_length=64)]


@dataclasses.dataclass(frozen=True)
class Replay:
    """What became of the golden cases. `problems` has one sentence for each one that failed."""

    passed: int
    total: int
    problems: tuple[str, ...]


def write_golden(loaded: "LoadedModel", folder: Path, precision: str) -> None:
    """Write `golden.json` and the pictures `golden/*.png` of a model into a bundle's folder.

    Raises `InputError` for a model whose logits are not finite.
    """
    (folder / "golden").mkdir()
    cases = []
    for name, picture, question in _choose(loaded):
        path = f"golden/{name}.png"
        Image.fromarray(picture).save(folder / path)
        cases.append(_case(loaded, path, picture, question))
    largest = max(abs(value) for case in cases for value in case.logits)
    tolerance = float(f"{RELATIVE_TOLERANCE[precision] * max(largest, 1e-6):.3g}")
    golden = GoldenFile(tolerance=tolerance, cases=tuple(cases))
    text = json.dumps(golden.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / GOLDEN).write_text(text + "\n", encoding="utf-8")


def _choose(loaded: "LoadedModel") -> Iterator[tuple[str, np.ndarray, str]]:
    """Yield (name, picture, question): scenes of different kinds that the model is sure of, then a wide and a tall."""
    from edgevl.data.scenes import Scenes

    scenes = Scenes("test", size=max(loaded.config.image_size, 32))
    found = [scenes.scene(_FIRST_SCENE + index) for index in range(_CANDIDATES)]
    asked = [(scene.image, question) for scene in found for question in scene.questions(1)]
    for index, (picture, question) in enumerate(_surest(loaded, asked)):
        yield f"{index}-{question.kind.replace(' ', '_')}", picture, question.text
    first, second = found[0].image, found[1].image
    side = first.shape[0]
    wide = np.concatenate([first, second], axis=1)[: side - side // 7, : 2 * side - side // 5]
    tall = np.concatenate([second, first], axis=0)[:, side // 9 : side - side // 3]
    yield "wide", wide, asked[0][1].text
    yield "tall", tall, asked[-1][1].text


def _surest(loaded: "LoadedModel", asked: list[tuple[np.ndarray, "Question"]]) -> list[tuple[np.ndarray, "Question"]]:
    margins = [_margin(_logits(loaded, _pixels(loaded, picture), question.text)) for picture, question in asked]
    order = np.argsort(margins)[::-1].tolist()
    kinds: dict[str, int] = {}
    for index in order:
        kinds.setdefault(asked[index][1].kind, index)
    chosen = (list(kinds.values()) + [index for index in order if index not in kinds.values()])[:PLAIN_CASES]
    return [asked[index] for index in chosen]


def _case(loaded: "LoadedModel", path: str, picture: np.ndarray, question: str) -> GoldenCase:
    pixels = _pixels(loaded, picture)
    logits = _logits(loaded, pixels, question)
    return GoldenCase(
        image=path,
        question=question,
        pixels_sha256=pixels_sha256(pixels),
        input_ids=tuple(loaded.tokenizer.encode(question, loaded.config.text_length).tolist()),
        logits=tuple(round(float(value), 6) for value in logits),
        answer=loaded.labels[int(logits.argmax())],
        margin=round(_margin(logits), 6),
    )


def _pixels(loaded: "LoadedModel", picture: np.ndarray) -> np.ndarray:
    return to_pixels(load_image(picture), loaded.config.image_size)


def _logits(loaded: "LoadedModel", pixels: np.ndarray, question: str) -> np.ndarray:
    import torch

    ids = torch.from_numpy(loaded.tokenizer.encode(question, loaded.config.text_length))[None]
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float()
    with torch.inference_mode():
        logits = loaded.model(image, ids)[0].numpy()
    if not np.isfinite(logits).all():
        raise InputError(f"{loaded.path} answers with logits that are not finite: a value inside overflows")
    return logits


def _margin(logits: np.ndarray) -> float:
    return float(np.subtract(*np.sort(logits)[:-3:-1])) if logits.size > 1 else 0.0


def pixels_sha256(pixels: np.ndarray) -> str:
    """The digest of uint8 [S, S, 3] as golden.json records it: rows, then columns, then R, G, B."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def read_golden(bundle: Bundle) -> GoldenFile:
    """Raises `VerificationFailed` if golden.json is missing, truncated or invalid."""
    name = bundle.manifest.golden
    return validate(GoldenFile, parse_json(read_text(bundle.file(name)), name), name)


def replay(bundle: Bundle, session: "Session | None") -> Replay:
    """Run every golden case through the bundle's own tokenizer and labels, and the artifact if there is a session."""
    golden, tokenizer, labels = read_golden(bundle), bundle.tokenizer(), bundle.labels()
    found = [_replay_case(bundle, session, tokenizer, labels, case, golden.tolerance) for case in golden.cases]
    problems = tuple(f"golden case {case.image}: {problem}" for case, problem in zip(golden.cases, found) if problem)
    return Replay(len(found) - len(problems), len(found), problems)


def _replay_case(
    bundle: Bundle, session: "Session | None", tokenizer: Any, labels: list[str], case: GoldenCase, tolerance: float
) -> str | None:
    try:
        pixels = to_pixels(load_image(bundle.file(case.image)), bundle.manifest.preprocessing.size)
        ids = tokenizer.encode(case.question, bundle.manifest.tokenizer.length)
    except InputError as error:
        return str(error)
    if pixels_sha256(pixels) != case.pixels_sha256:
        return "the preprocessed picture is not the recorded tensor"
    if ids.tolist() != list(case.input_ids):
        return f"{bundle.manifest.tokenizer.file} gives other token ids than the recorded ones"
    if len(labels) != len(case.logits) or labels[int(np.argmax(case.logits))] != case.answer:
        return (
            f'{bundle.manifest.labels.file} does not give the recorded answer "{case.answer}" for the recorded logits'
        )
    if session is None:
        return None
    logits = run_one(session, {"image": pixels[None], "input_ids": ids[None]})["logits"][0].astype(np.float64)
    if logits.size != len(case.logits):
        return f"the artifact gives {logits.size} logits, {len(case.logits)} are recorded"
    difference = float(np.abs(logits - case.logits).max())
    if not difference <= tolerance:  # also when it is not a number
        return f"a logit differs by {difference:.4g} from the recorded one, at most {tolerance:.4g} is allowed"
    answer = labels[int(logits.argmax())]
    if answer != case.answer and case.margin > 2 * tolerance:
        return f'the answer is "{answer}", the recorded one is "{case.answer}"'
    return None
