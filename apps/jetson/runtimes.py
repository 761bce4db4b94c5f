"""The two runtimes: ONNX Runtime on the processor (onnx_runner.py), TensorRT on the GPU (tensorrt_runner.py).

A runner takes one query in three steps, so that each can be timed apart: `put` (inputs to where the model reads them),
`run` (the model alone; returns its seconds), `get` (the values that the decoding reads, by output). Which programs are
called, and with what, is the query's `calls.Plan`. Both run every plan: calls of a program with several texts or
pictures, and sequences.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import build_engine
from onnx_runner import OnnxRunner
from problems import BAD_INPUT, MISSING, REFUSED, Problem
from tensorrt_runner import TensorRTRunner
from watch import BUILD_SECONDS, BUILDING, LOADING, Watch, die_with

if TYPE_CHECKING:
    from bundle_reader import Bundle


def open_runner(bundle: Bundle, threads: int, engines: Path | None, watch: Watch) -> Any:
    """TensorRT for a bundle of the target tensorrt, else ONNX Runtime. Raises `Problem`."""
    for program in bundle.manifest["programs"]:
        if any(spec.get("kind", "tensor") == "image" for spec in program["inputs"]):
            raise Problem(REFUSED, f"{program['artifact']} takes a picture type, which no {bundle.target} file has")
    if bundle.target != "tensorrt":
        watch.step(LOADING)
        return OnnxRunner(bundle, threads)
    watch.step(BUILDING, BUILD_SECONDS)
    trt, files = find_engines(bundle, engines)
    watch.step(LOADING)
    return TensorRTRunner(bundle, trt, files)


def find_engines(bundle: Bundle, engines: Path | None) -> tuple[Any, list[Path]]:
    """TensorRT and the engine of each program for this GPU: our build_engine.py builds what is missing.

    The bundle's is not run, whatever it is. Building has a process of its own, whose memory is free again before
    anything is measured.
    """
    engines = engines or cache_folder(bundle.artifact_sha256)
    try:
        trt, gpu = build_engine.load_tensorrt(False), build_engine.find_gpu()
        if gpu is None:
            raise Problem(MISSING, "no NVIDIA GPU answers here: run this on the board, or export for onnx")
        command = [sys.executable, str(build_engine.__file__), str(bundle.path), "--out", str(engines)]
        done = subprocess.run(command, stdout=sys.stderr, preexec_fn=functools.partial(die_with, os.getpid()))
        if done.returncode:
            raise Problem(done.returncode, "build_engine.py could not build the engine; its reason stands above")
        found = []
        for _, name, (_, digest) in build_engine.find_models(bundle.path):
            flags = {"tf32": False, "workspace_mb": None}  # what build_engine.py does without options
            record = build_engine.make_record(trt, name, digest, gpu, None, flags)
            found.append(build_engine.engine_path(bundle.path, record, engines))
        return trt, found
    except build_engine.Problem as problem:
        raise Problem(problem.exit_code, str(problem)) from None
    except OSError as error:
        raise Problem(BAD_INPUT, f"the engine cannot be built ({error})") from None


def cache_folder(digest: str) -> Path:
    """Of one artifact's engines, below the user's own cache: an engine is code, and beside a bundle lies anybody's."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root) / "edgevl" / "engines" / digest[:16]
