"""The tables of docs/targets.md: every target and precision of the embedded models, and every backbone on every target.

    python tools/target_table.py embedded       # 1 000 samples of Scenes each
    python tools/target_table.py retrieval      # the embedded model that finds pictures, among 500 of Scenes
    python tools/target_table.py family         # untrained models: parity only
    python tools/target_table.py wider          # more backbones and precisions, small, each case bounded in time
    python tools/target_table.py page           # docs/targets.md from what was measured

Each row is the outcome of `edgevl export` and `edgevl verify`, run here, kept in docs/targets.jsonl: a run that was
stopped goes on where it was, rows of an embedded model of before are measured anew, `--again` measures all anew, and
`--failed` those that failed. Cases are measured in another process, which is killed when one takes too long.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from edgevl.apps.jetson.bundle_files import sha256_file
from edgevl.bench.machine import describe_machine
from edgevl.bench.run import why_not_timed
from edgevl.bundle.folder import Bundle
from edgevl.cli import main as edgevl
from edgevl.config import CONFIGS
from edgevl.embedded import FINDS_PICTURES, model_folder
from edgevl.export.family import FAMILY, QUANTIZED, WIDER, untrained_problems, write_untrained
from edgevl.export.registry import get_exporter, target_names
from edgevl.runtime.session import Session
from edgevl.verify.run import VerifyReport

DOCS = Path(__file__).parents[1] / "docs"
ROWS, PAGE = DOCS / "targets.jsonl", DOCS / "targets.md"
TEMPLATE = Path(__file__).with_name("targets.md.jinja")
# Of the family each target is shown in the precision that people ship it in.
SHIPPED = {"onnx": "fp32", "coreml": "fp16", "tensorrt": "fp16", "executorch": "fp32", "litert": "fp32"}
MODELS = FAMILY | CONFIGS | WIDER
SAMPLES = {"embedded": 1000, "retrieval": 500, "family": 32, "wider": 16}  # pictures that a case is verified on
CALIBRATED = (256, 1024, 4096)  # pictures for w8a8; more where the audit of a calibration asks for more
LIMIT = 900.0  # seconds for a case
SERVED = 24  # cases that one process measures: converters keep what they take, and take seconds to import
TIMED_RUNS = 30
# A second and more each: coreai-core computes float16 very slowly.
FEWER_SAMPLES = {"embedded coreai fp16": 50, "nano-retrieval coreai fp16": 50}
NAMED = {"embedded": [], FINDS_PICTURES.name: [FINDS_PICTURES.name]}  # models that a command line knows by name


@dataclasses.dataclass(frozen=True)
class Case:
    """One export: of a model, for a target, in a precision, with options of the command line."""

    model: str  # "embedded", "nano-retrieval", a backbone of the family, or a named config
    target: str
    precision: str
    options: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return " ".join([self.model, self.target, self.precision, *self.options])


def every_precision(model: str) -> Iterator[Case]:
    """Yield a case for each precision of each target, and for each scheme of 4 bits."""
    for target in target_names():
        for precision in get_exporter(target).precisions:
            schemes = get_exporter(target).options.get("scheme")
            named = [each for each in schemes.choices if each != "none"] if schemes and precision == "w4" else []
            variants = [("--scheme", each) for each in named] or [()]
            yield from (Case(model, target, precision, variant) for variant in variants)


def embedded_cases() -> Iterator[Case]:
    yield from every_precision("embedded")
    yield Case("embedded", "executorch", "fp32", ("--delegate", "coreml"))
    for target in ("onnx", "coreml", "executorch", "litert", "tensorrt"):
        yield Case("embedded", target, get_exporter(target).default_precision, ("--layout", "split"))
    yield Case("embedded", "onnx", "w8a8", ("--dialect", "arm"))
    yield Case("embedded", "onnx", "fp32", ("--batch", "8"))


def retrieval_cases() -> Iterator[Case]:
    yield from every_precision(FINDS_PICTURES.name)


def family_cases() -> Iterator[Case]:
    for model in (*FAMILY, *CONFIGS):
        yield from (Case(model, target, precision) for target, precision in SHIPPED.items())


def wider_cases() -> Iterator[Case]:
    for model in WIDER:
        yield from (Case(model, target, each) for target, precisions in QUANTIZED.items() for each in precisions)


CASES = {"embedded": embedded_cases, "retrieval": retrieval_cases, "family": family_cases, "wider": wider_cases}


@functools.cache
def weights(model: str) -> str | None:
    """Digest of embedded weights, which change from release to release; untrained models are always the same."""
    folder = model_folder(model.replace("embedded", "nano"))
    return sha256_file(folder / "model.safetensors")[:12] if model in NAMED else None


def measure(case: Case, samples: int, scratch: Path) -> dict[str, Any]:
    """Export and verify one case. Returns a row for the table; a failure is a row too."""
    bundle = scratch / "bundle.edgevl"
    shutil.rmtree(bundle, ignore_errors=True)
    code, source, errors = _source(case, scratch)
    if code:
        return failure(case, code, errors)
    given = ["--target", case.target, "--precision", case.precision, *case.options, "--out", str(bundle)]
    began = time.perf_counter()
    code, _, errors = run("export", *source, *given)
    if code:
        return failure(case, code, errors)
    row = _row(case) | {"export_exit": code, "export_s": round(time.perf_counter() - began, 1)}
    checkpoint = ["--checkpoint", *source] if source else []
    code, out, errors = run("verify", str(bundle), "--samples", str(samples), "--json", *checkpoint)
    report = json.loads(out) if out else {}
    said = [*(report.get("audit") or {}).get("problems", []), *report.get("notes", [])]
    if source and report:
        said = untrained_problems(VerifyReport.model_validate(report))
        code = 4 if said else 0
    return row | {
        "verify_exit": code,
        "why": "; ".join(said or (errors[-1:] if code else [])),
        "runtime": report.get("runtime"),
        "parity": report.get("parity"),
        "snr_db": (report.get("parity") or {}).get("snr_db"),
        "accuracy": _accuracy(case, report.get("accuracy")),
        "bytes": Bundle.open(bundle).manifest.artifact_bytes,
        "latency_ms": None if why_not_timed(case.target) or not report.get("parity") else latency(bundle),
    }


def _accuracy(case: Case, found: dict[str, Any] | None) -> dict[str, Any] | None:
    """The first metric; of a model that finds pictures all of them, with their intervals."""
    kept = ("artifact", "reference", "samples", *(["metrics"] if case.model == FINDS_PICTURES.name else []))
    return found and {key: found[key] for key in kept}


def _row(case: Case) -> dict[str, Any]:
    return {"key": case.key, "weights": weights(case.model)} | dataclasses.asdict(case)


def failure(case: Case, code: int | None, errors: list[str]) -> dict[str, Any]:
    """The row of a case that gave no bundle."""
    return _row(case) | {"export_exit": code, "why": errors[-1] if errors else ""}


def _source(case: Case, scratch: Path) -> tuple[int, list[str], list[str]]:
    """Write the model of a case, calibrated for w8a8, once. Returns exit code, arguments of `export`, what it said."""
    if case.model in NAMED:
        return 0, NAMED[case.model], []
    folder, quantized = (scratch / "models" / name for name in (case.model, f"{case.model}-w8a8"))
    if not folder.exists():
        write_untrained(MODELS[case.model], folder)
    if case.precision != "w8a8":
        return 0, [str(folder)], []
    code, errors = 0, []
    for count in CALIBRATED if not quantized.exists() else ():
        code, _, errors = run("quantize", str(folder), "--samples", str(count), "--out", str(quantized))
        if not code:
            break
    return code, [str(quantized)], errors


class Worker:
    """Measures cases in another process: a converter may crash, never end, or keep what it has taken."""

    def __init__(self, scratch: Path):
        self.scratch, self.served = scratch, 0
        self.process: Any = None

    def measure(self, case: Case, samples: int) -> dict[str, Any]:
        if self.process is None or self.served == SERVED:
            self.start()
        self.served += 1
        self.pipe.send((case, samples))
        try:
            if self.pipe.poll(LIMIT):
                return self.pipe.recv()
            said = f"not done after {LIMIT:.0f} s"
        except EOFError:
            said = "the converter ended its process"
        self.stop()
        shutil.rmtree(self.scratch / "models", ignore_errors=True)  # it may have stopped halfway through one
        return failure(case, None, [said])

    def start(self) -> None:
        self.stop()
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.scratch), daemon=True)
        self.process.start()
        theirs.close()
        self.served = 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()  # it has nothing to put away, and converters leave threads behind
            self.process.join()
        self.process = None


def serve(pipe: Any, scratch: Path) -> None:
    while True:
        case, samples = pipe.recv()
        pipe.send(measure(case, samples, scratch))


def run(*arguments: str) -> tuple[int, str, list[str]]:
    """One command line, in this process: exit code, standard output, lines of standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = edgevl(list(arguments))
    return code, out.getvalue(), err.getvalue().strip().splitlines()


def latency(bundle: Path) -> float:
    """Median milliseconds of one run of each program on one thread."""
    return round(sum(map(_latency, Bundle.open(bundle).sessions(threads=1).values())), 2)


def _latency(session: Session) -> float:
    import numpy as np

    feeds = {spec.name: np.ones(spec.shape, spec.dtype) for spec in session.inputs}
    times = []
    for _ in range(5 + TIMED_RUNS):
        start = time.perf_counter()
        session.run(feeds)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[5:])


def load_rows() -> dict[str, dict[str, Any]]:
    """Rows by key; a row measured again replaces the older one."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def drop_replaced() -> None:
    """Leave one row of each key in the file: while rows are measured they are only appended."""
    ROWS.write_text("".join(json.dumps(row) + "\n" for row in load_rows().values()), encoding="utf-8")


def collect(cases: list[Case], samples: int, have: dict[str, dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory(prefix="edgevl-targets-") as scratch:
        worker = Worker(Path(scratch))
        for number, case in enumerate(cases, 1):
            if case.key in have and have[case.key].get("weights") == weights(case.model):
                continue
            row = worker.measure(case, FEWER_SAMPLES.get(case.key, samples))
            row["machine"] = machine()
            with ROWS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            outcome = row.get("verify_exit", row["export_exit"])
            print(f"{number}/{len(cases)} {case.key}: exit {outcome} {row.get('why', '')[:150]}", flush=True)
        worker.stop()


def machine() -> dict[str, Any]:
    found = describe_machine().model_dump(mode="json", include={"cpu", "cores", "os", "versions"})
    return found | {"versions": {name: found["versions"].get(name) for name in ("torch", "onnxruntime", "coremltools")}}


def machines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the rows were measured on, each once."""
    return [json.loads(text) for text in sorted({json.dumps(row["machine"]) for row in rows})]


def _recall(row: dict[str, Any], direction: str) -> str:
    """Recall at 1, 5 and 10 of the artifact with intervals, and PyTorch's after it."""
    found = {each["name"]: each for each in row["accuracy"]["metrics"]}
    each = [found[f"{direction}_r{k}"] for k in (1, 5, 10)]
    own = [f"{100 * one['artifact']:.1f} ({' to '.join(f'{100 * end:.1f}' for end in one['ci95'])})" for one in each]
    return " | ".join([*own, " / ".join(f"{100 * one['reference']:.1f}" for one in each)])


def write_page() -> None:
    rows = load_rows()
    embedded, retrieval, family = (
        [rows[case.key] for case in cases() if case.key in rows]
        for cases in (embedded_cases, retrieval_cases, family_cases)
    )
    quantized = [(target, precision) for target, precisions in QUANTIZED.items() for precision in precisions]
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"kilobytes": lambda count: f"{count / 1000:,.0f}", "percent": lambda p: f"{100 * p:.1f}"}
    environment.filters["recall"] = _recall
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        embedded=embedded,
        retrieval=retrieval,
        former=[row["key"] for row in embedded if row.get("weights") != weights("embedded")],
        machines={"embedded": machines(embedded), "retrieval": machines(retrieval), "family": machines(family)},
        family={
            model: {target: rows.get(Case(model, target, precision).key) for target, precision in SHIPPED.items()}
            for model in (*FAMILY, *CONFIGS)
        },
        shipped=SHIPPED,
        wider={model: [rows.get(Case(model, *cell).key) for cell in quantized] for model in WIDER},
        quantized=quantized,
    )
    PAGE.write_text(text + "\n", encoding="utf-8")
    print(PAGE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*CASES, "page"])
    parser.add_argument("--only", default="", help="cases whose key contains this text")
    parser.add_argument("--again", action="store_true", help="measure what was measured before, too")
    parser.add_argument("--failed", action="store_true", help="measure what failed before, too")
    arguments = parser.parse_args()
    if arguments.what != "page":
        cases = [case for case in CASES[arguments.what]() if arguments.only in case.key]
        have = {} if arguments.again else load_rows()
        if arguments.failed:
            have = {key: row for key, row in have.items() if row.get("verify_exit") == 0}
        collect(cases, SAMPLES[arguments.what], have)
        drop_replaced()
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
