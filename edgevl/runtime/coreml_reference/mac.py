"""Ask a Mac what Core ML's documentation leaves open, and compare its answers with the executor's.

    python -m edgevl.runtime.coreml_reference.mac record answers.npz    # on a Mac: needs coremltools
    python -m edgevl.runtime.coreml_reference.mac check answers.npz     # anywhere

`record` builds the program of every question (`questions.py`), runs it on each compute unit with Core ML, and writes
the answers and what gave them. Elsewhere it writes the executor's answers, as the unit REFERENCE.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .node import UnsupportedOp
from .program import MLProgram
from .questions import LABELS, QUESTIONS, Question
from .seam import ExecutorError, InputError, first_line, import_coremltools, quiet_coremltools

UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")
_TOLERANCE = 2e-2  # answers of one question are farther apart than that


def main(argv: Sequence[str] | None = None) -> int:
    """Record or check. Returns 0; 4 if a recorded answer is not the executor's; an error's own code for an error."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("record", "check"))
    parser.add_argument("file", type=Path, help="of answers, .npz")
    options = parser.parse_args(argv)
    try:
        if options.action == "record":
            return record(options.file)
        return check(options.file)
    except ExecutorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def record(path: Path) -> int:
    """Run every question here and write the answers to `path`."""
    ct = import_coremltools("building the questions' programs")
    on_mac = platform.system() == "Darwin"
    answers: dict[str, np.ndarray] = {"about": np.array(json.dumps(_about(ct)))}
    with tempfile.TemporaryDirectory() as folder:
        for name, question in QUESTIONS.items():
            package = Path(folder) / f"{name}.mlpackage"
            build(ct, question, package)
            for unit in UNITS if on_mac else ("REFERENCE",):
                answers[f"{name}/{unit}"] = _asked(_on_mac(ct, unit) if on_mac else _here, question, package)
                print(f"{name}, {unit}: {_shown(answers[f'{name}/{unit}'])}")
    named: Any = answers
    np.savez(path, **named)
    print(f"written: {path}")
    return 0


def build(ct: Any, question: Question, package: Path) -> None:
    """Save the program of a question."""
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    kinds = {"float32": types.fp32, "int32": types.int32, "uint8": types.fp32}
    target = getattr(ct.target, question.target)
    specs = [mb.TensorSpec(_planes(array), dtype=kinds[array.dtype.name]) for array in question.inputs.values()]
    options: dict[str, Any] = {}
    if question.kind == "image":
        gray = ct.colorlayout.GRAYSCALE
        options["inputs"] = [ct.ImageType(name="x", shape=_planes(question.inputs["x"]), color_layout=gray)]
    if question.kind == "classifier":
        options["classifier_config"] = ct.ClassifierConfig(LABELS)
    with quiet_coremltools():
        model = ct.convert(
            mb.program(input_specs=specs, opset_version=target)(question.build(mb)),
            convert_to="mlprogram",
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT16 if question.half else ct.precision.FLOAT32,
            skip_model_load=True,
            **options,
        )
        if question.kind == "image":
            model = _with_image_output(ct, model)
        model.save(str(package))


def _with_image_output(ct: Any, model: Any) -> Any:
    """The converter takes image outputs from the frameworks' programs alone, so the description is changed here."""
    spec = model.get_spec()
    shape, output = list(spec.description.output[0].type.multiArrayType.shape), spec.description.output[0]
    output.type.imageType.height, output.type.imageType.width = shape[-2:]
    output.type.imageType.colorSpace = output.type.imageType.GRAYSCALE
    return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


def _planes(array: np.ndarray) -> tuple[int, ...]:
    """The shape of the program's input: of pixels [1, H, W, 1] the planes."""
    return (1, 1, *array.shape[1:3]) if array.dtype == np.uint8 else array.shape


Run = Callable[[Question, Path], Mapping[str, Any]]


def _asked(run: Run, question: Question, package: Path) -> np.ndarray:
    """The answer, or what went wrong, in words."""
    try:
        outputs = run(question, package)
    except Exception as error:  # Core ML, through coremltools, raises whatever it likes
        kind = "refused" if isinstance(error, UnsupportedOp) else "failed"
        return np.array(f"{kind}: {first_line(error).removeprefix(f'{package}: ')}")
    label = question.kind == "classifier"
    return np.asarray(outputs["classLabel"] if label else next(iter(outputs.values())))


def _here(question: Question, package: Path) -> Mapping[str, Any]:
    return MLProgram.load(package).predict(question.inputs)


def _on_mac(ct: Any, unit: str) -> Run:
    def run(question: Question, package: Path) -> Mapping[str, Any]:
        from PIL import Image

        feeds: Any = dict(question.inputs)
        if question.kind == "image":
            feeds = {name: Image.fromarray(array[0, ..., 0]) for name, array in feeds.items()}
        with quiet_coremltools():
            model = ct.models.MLModel(str(package), compute_units=getattr(ct.ComputeUnit, unit))
            outputs = model.predict(feeds)
        if question.kind == "image":
            return {name: np.asarray(picture.convert("L"))[None, ..., None] for name, picture in outputs.items()}
        return outputs

    return run


def _about(ct: Any) -> dict[str, str]:
    """What computed the answers."""
    system = f"macOS {platform.mac_ver()[0]}" if platform.system() == "Darwin" else platform.system()
    return {"system": system, "machine": platform.machine(), "coremltools": ct.__version__, "python": sys.version}


def check(path: Path) -> int:
    """Print, for every question, which of the possible answers each unit gave."""
    recorded = read(path)
    about = json.loads(str(recorded.pop("about", np.array("{}"))))
    print(
        f"{path}: {about.get('system', '?')}, {about.get('machine', '?')}, coremltools {about.get('coremltools', '?')}"
    )
    other = 0
    for name, unit, answer in _sorted(recorded):
        question = QUESTIONS[name]
        words = which(question, answer)
        agrees = question.ours in words or (question.ours is None and unit == "REFERENCE")
        other += not agrees
        ours = "" if agrees else f"; the executor: {question.ours or 'refuses it'}"
        print(f"{name}, {unit}: {' or '.join(words) or _shown(answer)}{ours}")
    print(f"{other} answers are not the executor's" if other else "every answer is the executor's")
    return 4 if other else 0


def read(path: Path) -> dict[str, np.ndarray]:
    """Return a file's answers, by "question/unit". Raises `InputError` for a file of another kind."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, AttributeError, EOFError) as error:
        raise InputError(f"{path} holds no answers ({first_line(error)})") from error


def _sorted(recorded: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, np.ndarray]]:
    for name in QUESTIONS:
        for key, answer in recorded.items():
            question, _, unit = key.partition("/")
            if question == name:
                yield name, unit, answer


def which(question: Question, answer: np.ndarray) -> list[str]:
    """The possible answers that a recorded one is."""
    return [words for words, expected in question.answers.items() if _same(answer, np.asarray(expected))]


def _same(answer: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype.kind == "U" or answer.dtype.kind == "U":
        return str(answer) == str(expected)
    return answer.size == expected.size and np.allclose(
        answer.astype(np.float64).ravel(), expected.astype(np.float64).ravel(), rtol=_TOLERANCE, atol=1e-6
    )


def _shown(answer: np.ndarray) -> str:
    return str(answer) if answer.dtype.kind == "U" else np.array2string(answer.ravel()[:8], precision=4)


if __name__ == "__main__":
    sys.exit(main())
