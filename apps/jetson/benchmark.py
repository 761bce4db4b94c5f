#!/usr/bin/env python3
"""Check and time a bundle of EdgeVL on the board that will run it, and write the report as JSON.

    python3 benchmark.py nano-tensorrt-fp16.edgevl --preset quick

Needs Python 3.8, numpy, Pillow 8 and a runtime: TensorRT (target tensorrt) or onnxruntime (target onnx). No PyTorch, no
EdgeVL: copy this folder. Digests and golden cases are checked first; what differs from them is not timed. Clocks and
power mode are recorded and left as they are, unless --lock-clocks is given. An artifact that never ends or takes all
memory is ended: --step-seconds and --memory-mb.

Exit codes: 0 measured; 2 bad usage or input; 3 something is not installed; 4 the bundle is not what it claims.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import numpy as np
    import PIL
except ImportError as error:
    print(f"error: {error.name} is not installed here: python3 -m pip install numpy pillow", file=sys.stderr)
    sys.exit(3)

import golden_cases
import jetson_board
import measuring
from bundle_reader import Bundle, decode
from pictures import RESAMPLING, Frame, frame_of
from pictures.frames import KINDS
from pipeline import Pipeline
from problems import BAD_INPUT, REFUSED, Problem, plain
from runtimes import open_runner
from tensorrt_runner import launch_note
from watch import IDLE, MEMORY_MB, STEP_SECONDS, Limits, Watch, watched

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "edgevl.bench/1.2"
LEAST_HZ = 10  # of power readings
SAMPLES = "annotations.jsonl"


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    out = os.fdopen(os.dup(1), "w")  # libraries of NVIDIA's print to standard output: they get standard error instead
    os.dup2(2, 1)

    def work(watch: Watch) -> int:
        if options.until_stdin_closes:
            threading.Thread(target=end_with_stdin, daemon=True).start()
        return ended(lambda: write(run(options, watch), options.out, out))

    def watch_it() -> int:
        with jetson_board.locked_clocks() if options.lock_clocks else contextlib.nullcontext():
            return watched(work, Limits(options.step_seconds, options.memory_mb))

    return ended(watch_it)


def ended(work: Callable[[], int | None]) -> int:
    """Do it and return the exit code; whatever goes wrong is one line on standard error."""
    try:
        return work() or 0
    except Problem as problem:
        code, message = problem.exit_code, str(problem)
    except KeyboardInterrupt:
        code, message = 130, "interrupted; nothing was written"
    except MemoryError:
        code, message = REFUSED, "it needs more memory than this machine has"
    except Exception as error:
        code, message = 1, f"{ascii(error)[:300]} (unexpected)"
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def arguments(argv: list[str] | None) -> argparse.Namespace:
    about, _, more = (__doc__ or "").partition("\n\n")
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, epilog=more, formatter_class=layout)
    add = parser.add_argument
    add("bundle", type=Path, help="folder NAME.edgevl, of the target tensorrt or onnx")
    add("--preset", choices=sorted(measuring.PRESETS), default="quick", help="how much is measured (default: quick)")
    add("--threads", type=positive, metavar="N", help="of onnxruntime; default: 2, or 1 on a single core")
    add("--out", default="bench.json", metavar="FILE", help="the report; - is standard output (default: bench.json)")
    add("--samples", type=Path, metavar="FOLDER", help=f"also count right answers: {SAMPLES} and its pictures")
    add("--image", type=Path, metavar="FILE", help="picture of the timed query; default: a golden one as a large JPEG")
    add("--question", metavar="TEXT", help="of the timed query; default: that of the golden case")
    shown = "what the scope frame begins with: a camera's frame of 1920 x 1080 in memory (default: nv12)"
    add("--frame", choices=(*KINDS, "none"), default="nv12", help=shown)
    add("--engines", type=Path, metavar="FOLDER", help="of TensorRT's engines; default: in ~/.cache/edgevl/engines")
    add("--check", action="store_true", help="check the bundle and its golden cases on this board; time nothing")
    limit = f"of one step, such as loading or a query: ended after that (default: {STEP_SECONDS:g})"
    add("--step-seconds", type=amount, default=STEP_SECONDS, metavar="N", help=limit)
    limit = f"resident memory, in MiB: ended beyond that (default: {MEMORY_MB})"
    add("--memory-mb", type=amount, default=MEMORY_MB, metavar="N", help=limit)
    add("--lock-clocks", action="store_true", help="run jetson_clocks first (asks for sudo), restore the clocks after")
    add("--until-stdin-closes", action="store_true", help="stop when standard input ends: for `edgevl bench --device`")
    return parser.parse_args(argv)


def positive(text: str) -> int:
    cores = len(os.sched_getaffinity(0))
    if not text.isdigit() or not 1 <= int(text) <= cores:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads from 1 to {cores}")
    return int(text)


def amount(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1e9:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def end_with_stdin() -> None:
    """The other end of ssh is gone: stop at once, whatever library is at work, and leave nothing running here."""
    while os.read(0, 4096):
        pass
    os._exit(130)


def tell(text: str) -> None:
    print(plain(text), file=sys.stderr, flush=True)


def run(options: argparse.Namespace, watch: Watch) -> dict[str, Any] | None:
    """Check, time and describe; None with --check. Power at idle comes first, before a runtime wakes the GPU."""
    began, preset, load = time.perf_counter(), measuring.PRESETS[options.preset], os.getloadavg()
    bundle, cores = Bundle(options.bundle), len(os.sched_getaffinity(0))
    golden_cases.check(bundle)
    tell(f"{bundle.path.name}: every file is the one in the manifest")
    samples = read_samples(options.samples, bundle) if options.samples else []
    pictures, texts, about = query_of(options, bundle)
    board = None if options.check else jetson_board.describe_board()
    with jetson_board.Sensors() if board else contextlib.nullcontext() as sensors:
        watch.step(IDLE, preset.idle_seconds)
        idle = idle_readings(sensors, preset)
        threads = options.threads or min(2, cores)
        bound = measuring.bind(threads) if bundle.target == "onnx" else None
        runner = open_runner(bundle, threads, options.engines, watch)
        pipeline = Pipeline(bundle, runner, pictures, texts)
        frames = frames_of(pictures, options.frame)
        seen = Pipeline(bundle, runner, frames, texts) if frames else None
        base = base_result(bundle, runner, watch.each(pipeline), pipeline.stages)
        cases = golden_cases.replay(bundle, watch.each(pipeline.values))
        tell(f"{cases} of {cases} golden cases: pixels, token ids, values and results are as recorded")
        if options.check:
            return None
        base["notes"] = [*runner.notes, f"{cases} of {cases} golden cases passed on this machine", about]
        results, others, busy = time_scopes(base, runner, pipeline, seen, preset, sensors, idle, board, watch)
        for result in results[2:]:
            result["frame"] = f"{frames[0].width} x {frames[0].height} {options.frame.upper()}"
    if samples:
        results[1]["accuracy"] = accuracy(samples, options.samples, watch.each(pipeline.answer))
    watch.step(IDLE)
    noise = measuring.machine_flags(load[0], cores, others)
    for result in results:
        result["flags"] += noise
        result["valid"] = not any(entry["invalidates"] for entry in result["flags"])
    machine = describe_machine(runner, cores, load, others, bound)
    machine["board"] = {**board, **jetson_board.summary(idle, busy)} if board else None
    seconds = round(time.perf_counter() - began, 1)
    return {"schema": SCHEMA, "preset": options.preset, "seconds": seconds, "machine": machine, "results": results,
            "ratios": []}  # fmt: skip


def query_of(options: argparse.Namespace, bundle: Bundle) -> tuple[list[bytes], list[str], str]:
    """(bytes of pictures, texts, where they are from): as many as the first golden case has, but one text at most.

    Of golden pictures JPEGs of 1000 x 600, as a camera's.
    """
    case = golden_cases.Case(bundle, bundle.golden["cases"][0])
    texts, names = case.texts[:1], case.case["pictures"]
    if (options.question is not None and not texts) or (options.image is not None and not names):
        raise Problem(BAD_INPUT, f"this model reads no {'picture' if texts else 'text'}: leave the option out")
    texts = texts if options.question is None else [options.question]
    for codec in bundle.texts.values() if texts else ():
        codec.encode(texts[0])  # refuses an empty one now
    if options.image is None:
        about = f"timed on {' and '.join(names)} as a JPEG of 1000 x 600" if names else "timed on a golden text"
        return [as_photo(picture) for picture in case.pictures()], texts, about
    try:
        data = options.image.read_bytes()
    except OSError as error:
        raise Problem(BAD_INPUT, f"{options.image} cannot be read ({error.strerror})") from None
    image = decode(data, str(options.image))
    return [data] * len(names), texts, f"timed on {options.image.name}, {image.width} x {image.height}"


def frames_of(pictures: list[bytes], kind: str) -> list[Frame]:
    """Frames of 1920 x 1080 that show the timed pictures; none where none are wanted."""
    return [] if kind == "none" else [frame_of(decode(picture), kind) for picture in pictures]


def as_photo(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.resize((1000, 600), RESAMPLING.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def idle_readings(sensors: Any, preset: measuring.Preset) -> list[jetson_board.Reading]:
    if sensors is None:
        return []
    tell(f"power at idle, {preset.idle_seconds:g} s")
    started = time.perf_counter()
    time.sleep(preset.idle_seconds)
    return sensors.between(started, time.perf_counter())


def base_result(bundle: Bundle, runner: Any, query: Callable[[], float], stages: measuring.Stages) -> dict[str, Any]:
    """What all scopes share, from the first query of this process: cold times and peak memory."""
    manifest = bundle.manifest
    whole = query()
    return {
        "name": f"{manifest['name']}-{manifest['target']}-{manifest['precision']}",
        "artifact_sha256": bundle.artifact_sha256,
        "runtime": runner.runtime,
        "threads": runner.threads,
        "load_ms": round(1e3 * runner.load_seconds, 3),
        "first_ms": {"model": 1e3 * stages.seconds["model"][0], "pipeline": 1e3 * whole},
        "peak_mb": measuring.peak_memory_mb(),
    }


def time_scopes(
    base: dict[str, Any],
    runner: Any,
    pipeline: Pipeline,
    seen: Pipeline | None,
    preset: measuring.Preset,
    sensors: Any,
    idle: Any,
    board: Any,
    watch: Watch,
) -> tuple[list[dict[str, Any]], float | None, list[jetson_board.Reading]]:
    """The scopes one after the other. Returns (results, share of other processes, every reading meanwhile).

    seen: the pipeline of frames, for the scope `frame`.
    """
    results, readings, neighbors = [], [], measuring.Neighbors()
    scopes: list[tuple[str, Any]] = [("model", runner.run), ("pipeline", pipeline), ("frame", seen)]
    for scope, take in scopes if seen else scopes[:2]:
        tell(f"timing, scope {scope}")
        before = jetson_board.throttling()
        samples, began, stopped = measuring.measure(watch.each(take), preset)
        result = summarize(base, scope, samples, preset)
        if scope != "model":
            result["stages"] = take.stages.medians_ms(len(samples))
        elif hasattr(runner, "enqueue_seconds"):
            note = launch_note(runner.enqueue_seconds[-len(samples) :], samples)
            result["notes"] = result["notes"] + ([note] if note else [])
        if board:
            busy = sensors.between(began, stopped)
            add_board(result, idle, busy, stopped - began, board)
            held = jetson_board.throttled_between(before, jetson_board.throttling())
            if held:
                result["flags"].append(measuring.flag("throttled", f"the board was held back: {', '.join(held)}"))
            readings += busy
        results.append(result)
    return results, neighbors.share(), readings


def summarize(base: dict[str, Any], scope: str, samples: list[float], preset: measuring.Preset) -> dict[str, Any]:
    """One line of the report from samples in seconds."""
    milliseconds = [measuring.milliseconds(sample) for sample in samples]
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    first = round(base["first_ms"][scope], 3) if scope in base["first_ms"] else None
    return {
        **base, "scope": scope, "n": len(samples), "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "first_ms": first,
        "stages": {}, "samples_ms": milliseconds, "blocks": [len(samples)], "valid": True,
        "flags": measuring.sample_flags(milliseconds, preset),
        "throughput_per_s": round(1e3 * len(samples) / sum(milliseconds), 3),
    }  # fmt: skip


def add_board(result: dict[str, Any], idle: Any, busy: Any, seconds: float, board: dict[str, Any]) -> None:
    """Energy of a query, and remarks on clocks and sensors. `seconds` is the wall time of all queries together.

    In the scope model that includes what is between two queries: little for ONNX Runtime, for TensorRT the event calls.
    """
    quiet, power = jetson_board.power_means(idle), jetson_board.power_means(busy)
    result["energy"] = jetson_board.energy_per_query(quiet, power, seconds, result["n"])
    hertz = jetson_board.rate(busy)
    if power and hertz is not None and hertz < LEAST_HZ:
        text = f"power was read {hertz:.1f} times a second, fewer than {LEAST_HZ}"
        result["flags"].append(measuring.flag("sparse_power", text, invalidates=False))
    if board["clocks_locked"] is False:
        text = "clocks are not locked, so the governor has a part in the times: --lock-clocks, or sudo jetson_clocks"
        result["flags"].append(measuring.flag("clocks_not_locked", text, invalidates=False))


def read_samples(folder: Path, bundle: Bundle) -> list[dict[str, Any]]:
    """Lines {"image": path, "questions": [{"text", "answer"}, …]}, as `edgevl data scenes` writes them."""
    case = bundle.golden["cases"][0]
    if not bundle.decoding.answers or (len(case["pictures"]), len(case["texts"])) != (1, 1):
        raise Problem(BAD_INPUT, "--samples counts answers to a question about a picture: this model gives no such")
    try:
        lines = (folder / SAMPLES).read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines if line.strip()]
        found = [{"image": entry["image"], **entry["questions"][0]} for entry in entries if entry["questions"]]
        for sample in found:
            if not (folder / sample["image"]).is_file():
                raise Problem(BAD_INPUT, f"{folder / sample['image']} is missing")
            sample["text"], sample["answer"] = str(sample["text"]), str(sample["answer"])
    except OSError as error:
        raise Problem(BAD_INPUT, f"{folder / SAMPLES} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise Problem(BAD_INPUT, f"{folder / SAMPLES} is not as `edgevl data scenes` writes it ({error!r})") from None
    if not found:
        raise Problem(BAD_INPUT, f"{folder / SAMPLES} holds no question")
    return found


def accuracy(samples: list[dict[str, Any]], folder: Path, answer: Callable[..., list[str]]) -> dict[str, Any]:
    """Share of right answers to the first question of each picture, one picture at a time."""
    tell(f"accuracy on {len(samples)} samples")
    right = [answer([(folder / s["image"]).read_bytes()], [s["text"]]) == [s["answer"]] for s in samples]
    return {"share": sum(right) / len(right), "samples": len(right), "data": folder.resolve().name}


def describe_machine(runner: Any, cores: int, load: Any, others: float | None, bound: Any) -> dict[str, Any]:
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": jetson_board.processor(), "cores": cores, "memory_gb": round(memory / 2**30, 1),
        "os": platform.platform(), "python": platform.python_version(),
        "versions": {"numpy": np.__version__, "pillow": PIL.__version__, **runner.versions},
        "load_before": [round(value, 2) for value in load], "others_cpu": others,
        "governor": governor.read_text(encoding="utf-8").strip() if governor.exists() else None, "affinity": bound,
    }  # fmt: skip


def write(report: dict[str, Any] | None, target: str, out: Any) -> None:
    """The JSON to a file, through a hidden sibling, with a few lines for people; or to standard output alone."""
    if report is None:
        return
    text = json.dumps(report) + "\n"
    if target == "-":
        out.write(text)
        out.flush()
        return
    path = Path(target)
    hidden = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        hidden.write_text(text, encoding="utf-8")
        os.replace(str(hidden), str(path))
    except OSError as error:
        raise Problem(BAD_INPUT, f"{path} cannot be written ({error.strerror})") from None
    out.write("\n".join([*lines_of(report), str(path)]) + "\n")
    out.flush()


def lines_of(report: dict[str, Any]) -> list[str]:
    """What a person wants to know first."""
    lines = []
    for result in report["results"]:
        times = " ".join(f"{name} {result[f'{name}_ms']:.3f}" for name in ("p50", "p90", "p99"))
        energy = result.get("energy")
        power = f", {energy['mj']:.2f} mJ a query above idle ({energy['source']})" if energy else ""
        verdict = "" if result["valid"] else "  NOT VALID"
        lines.append(f"{result['name']}, {result['scope']}: {times} ms, n {result['n']}{power}{verdict}")
        lines += [f"  {entry['text']}" for entry in result["flags"]]
        if result.get("accuracy"):
            lines.append(f"  accuracy {result['accuracy']['share']:.2%} of {result['accuracy']['samples']} samples")
    return lines


if __name__ == "__main__":
    sys.exit(main())
