#!/usr/bin/env python3
"""Build the TensorRT engines of a bundle, on the machine that will run them.

    python3 build_engine.py                    # into NAME.engines/GPU-TENSORRT/, beside the bundle
    python3 build_engine.py --capability 8.6   # no GPU here: TensorRT for RTX builds ahead of time

Needs Python 3.8 or later and NVIDIA's Python package: TensorRT 10 or 11 (`import tensorrt`, part of JetPack 6.1 and
later) or TensorRT for RTX (`import tensorrt_rtx`). Every bundle has a copy, run by people alone, after `edgevl verify`.

The precision is in the ONNX file, which is strongly typed: no flag here changes it. An engine fits one kind of GPU and
one version of TensorRT, so MODEL.engine.json beside MODEL.engine records both, and the digests of the two files.

Exit codes: 0 built, or there already; 2 bad usage or input; 3 TensorRT or a GPU is missing; 4 the bundle was changed,
or TensorRT refuses it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import hashlib
import importlib
import json
import math
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BAD_INPUT, MISSING, REFUSED = 2, 3, 4
PACKAGES = ("tensorrt", "tensorrt_rtx")  # in the order in which they are tried
MAX_MANIFEST, MAX_ONNX = 16 << 20, 1 << 40  # bytes
NUMPY_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}  # the others in lower case


def plain(text: str) -> str:  # one line that no terminal obeys: what does not show is written out, as \x1b
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(text.split()))


class Problem(Exception):
    """What the user must hear, as one line, with the exit code of the process."""

    def __init__(self, exit_code: int, message: str):
        super().__init__(plain(message))
        self.exit_code = exit_code


def find_models(path: Path) -> list[tuple[Path, str, Any]]:
    """(file, path inside the bundle, (bytes, sha256) of the manifest) of a bundle's ONNX files; None of a bare one."""
    if path.is_file():
        return [(path, path.name, None)]
    file = path / "manifest.json"
    try:
        manifest = json.loads(read_plain(file, MAX_MANIFEST).decode("utf-8"), parse_int=float)
        target, names = manifest["target"], [each["artifact"] for each in manifest.get("programs") or [manifest]]
        listed = [(manifest["files"][name]["bytes"], manifest["files"][name]["sha256"]) for name in names]
        inside = [path in (path / name).resolve().parents for name in names]  # a link leads where it leads
    except OSError as error:
        raise Problem(BAD_INPUT, f"{file} cannot be read ({error.strerror}): name a bundle or an ONNX file") from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:  # RuntimeError: too deep
        raise Problem(REFUSED, f"{file} is damaged ({type(error).__name__}: {error}): export it again") from None
    if target != "tensorrt":
        raise Problem(BAD_INPUT, f"{path.name} is a bundle for {target}: export it with --target tensorrt")
    if not all(inside):
        raise Problem(REFUSED, f"manifest.json names {names[inside.index(False)]!r}, which is not inside the bundle")
    return [(path / name, name, each) for name, each in zip(names, listed)]


def read_plain(file: Path, most: int) -> bytes:
    """The bytes of a plain file: a pipe would keep us waiting, and a device never end."""
    with os.fdopen(os.open(str(file), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
        info = os.fstat(stream.fileno())
        if not stat.S_ISREG(info.st_mode) or info.st_size > most:
            raise ValueError(f"it is no plain file of at most {most:,.0f} bytes")
        return stream.read()


def read_model(file: Path, name: str, listed: Any = None) -> tuple[bytes, str]:
    """The bytes of an ONNX file and their sha256, compared with the manifest's. What is checked is what is parsed."""
    try:
        data = read_plain(file, listed[0] if listed else MAX_ONNX)
    except (OSError, ValueError, TypeError) as error:
        code, reason = REFUSED if listed else BAD_INPUT, getattr(error, "strerror", None) or error
        raise Problem(code, f"{name} cannot be read ({reason})") from None
    digest = hashlib.sha256(data).hexdigest()
    if listed and digest != listed[1]:
        raise Problem(REFUSED, f"{name} has changed: its sha256 is not the one in manifest.json; copy the bundle again")
    return data, digest


def load_tensorrt(ahead_of_time: bool, wanted: str | None = None) -> Any:
    """Import TensorRT, or TensorRT for RTX, which alone builds for a GPU that is not here."""
    names = (wanted,) if wanted else ("tensorrt_rtx",) if ahead_of_time else PACKAGES
    for name in names:
        try:
            trt = importlib.import_module(name)
        except (ImportError, OSError):  # OSError: the package is there, a library of NVIDIA's is not
            continue
        if name == "tensorrt" and int(trt.__version__.split(".")[0]) < 10:
            raise Problem(MISSING, f"TensorRT {trt.__version__} is too old for a strongly typed network: 10 is needed")
        return trt
    advice = "pip install tensorrt-rtx-cu13" if ahead_of_time else "pip install tensorrt; on a Jetson, install JetPack"
    raise Problem(MISSING, f"{' and '.join(names)} cannot be imported: {advice}")


def find_gpu() -> dict[str, str] | None:
    """Name and compute capability of the first GPU, from CUDA's driver itself; None without one."""
    for library in ("libcuda.so.1", "libcuda.so", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            return ask_driver(ctypes.CDLL(library))
    return None


def ask_driver(cuda: Any) -> dict[str, str] | None:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, 256, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # COMPUTE_CAPABILITY_MAJOR
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)  # COMPUTE_CAPABILITY_MINOR
    )
    found = {"name": name.value.decode("utf-8", "replace"), "compute_capability": f"{major.value}.{minor.value}"}
    return None if failed else found


def capability_of(trt: Any, text: str) -> Any:
    """TensorRT for RTX's constant for "8.6"."""
    known = {name: getattr(trt.ComputeCapability, name) for name in dir(trt.ComputeCapability) if name[:2] == "SM"}
    wanted = "SM" + text.replace(".", "")
    if wanted not in known:
        names = ", ".join(sorted((f"{name[2:-1]}.{name[-1]}" for name in known), key=float))
        raise Problem(BAD_INPUT, f"{trt.__name__} {trt.__version__} does not build for {text}; it knows {names}")
    return known[wanted]


@functools.lru_cache(maxsize=None)
def log_of(trt: Any) -> Any:
    """The one log of a process: TensorRT keeps a pointer to the first that it is given and ignores the later ones."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []  # warnings and errors
            self.verbose = False

        def log(self, severity: Any, message: str) -> None:
            level = int(severity)  # 0 internal error, 1 error, 2 warning, 3 information, 4 verbose
            if level <= 2:
                self.messages.append(f"{('internal error', 'error', 'warning')[level]}: {message}")
            if self.verbose and level <= 3:
                print(message, file=sys.stderr)

    return Log()


def parse(trt: Any, data: bytes, name: str) -> tuple[Any, Any, Any]:
    """(builder, network, parser) of an ONNX file. All three must live until the build: the parser holds the weights."""
    builder = trt.Builder(log_of(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))  # 11 ignores it
    parser = trt.OnnxParser(network, log_of(trt))
    if not parser.parse(data):
        reasons = [error_text(parser.get_error(index)) for index in range(parser.num_errors)]
        raise Problem(REFUSED, f"TensorRT's parser refuses {name}: " + ("; ".join(reasons) or "it gives no reason"))
    if not network.num_layers or not network.num_outputs:  # what is not ONNX at all can parse as an empty model
        raise Problem(REFUSED, f"{name} holds no network: it is truncated or not ONNX")
    return builder, network, parser


def error_text(error: Any) -> str:
    """An error of the parser with the node that it belongs to."""
    where, told = "", "not readable as text"
    with contextlib.suppress(UnicodeDecodeError):  # a name in a damaged file
        if error.node() >= 0:
            where = f"node {error.node_name() or error.node()} ({error.node_operator()}): "
    with contextlib.suppress(UnicodeDecodeError):
        lines = error.desc().splitlines()
        # The node again, and that this machine has no GPU: true, and not why the node is refused.
        useful = [line for line in lines if not line.startswith("Invalid Node") and "Cuda Runtime" not in line]
        told = " ".join(useful or lines)
    return where + told


def describe(trt: Any, network: Any) -> dict[str, Any]:
    """Layers by type and by the dtype that they compute in and give, bytes of weights by dtype, before any fusion."""
    types: dict[str, dict[str, int]] = {}
    weights: dict[str, int] = {}
    for layer in map(network.get_layer, range(network.num_layers)):
        dtypes = types.setdefault(layer.type.name, {})
        for output in (layer.get_output(number) for number in range(layer.num_outputs)):
            dtypes[dtype_name(output.dtype)] = dtypes.get(dtype_name(output.dtype), 0) + 1
        for dtype, size in layer_weights(trt, layer):
            weights[dtype] = weights.get(dtype, 0) + size
    return {"layers": network.num_layers, "types": types, "weight_bytes": weights}


def layer_weights(trt: Any, layer: Any) -> Iterator[tuple[str, int]]:
    """(dtype, bytes) of what a layer holds: a constant, or the kernel and bias of a convolution."""
    if layer.type.name == "CONSTANT":
        output, name = layer.get_output(0), dtype_name(layer.get_output(0).dtype)
        bits = {"bool": 8, "e8m0": 8}.get(name) or int(re.sub(r"\D", "", name))
        yield name, -(-bits * math.prod(output.shape) // 8)
    elif layer.type.name in ("CONVOLUTION", "DECONVOLUTION"):
        layer.__class__ = getattr(trt, f"I{layer.type.name.title()}Layer")  # how the bindings cast to a subclass
        yield from ((dtype_name(array.dtype), array.nbytes) for array in (layer.kernel, layer.bias) if array.nbytes)


def dtype_name(dtype: Any) -> str:
    """As NumPy names it."""
    return NUMPY_NAMES.get(dtype.name, dtype.name.lower())


def build(trt: Any, parsed: tuple[Any, Any, Any], record: dict[str, Any]) -> Any:
    """The serialized engine, as a buffer, for the GPU and with the flags of `record`."""
    builder, network, _ = parsed
    config, flags = builder.create_builder_config(), record["flags"]
    if not flags["tf32"]:  # on by default in TensorRT: fp32 products with 10 bits of mantissa
        config.clear_flag(trt.BuilderFlag.TF32)
    if flags["workspace_mb"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, flags["workspace_mb"] << 20)
    if trt.__name__ == "tensorrt_rtx":
        config.num_compute_capabilities = 1
        there = trt.ComputeCapability.CURRENT if record["gpu"] else capability_of(trt, record["compute_capability"])
        config.set_compute_capability(there, 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        reason = [message for message in log_of(trt).messages if "error:" in message][-1:] or ["it gives no reason"]
        raise Problem(REFUSED, f"TensorRT cannot build {record['onnx']['file']}: {reason[0]}")
    return memoryview(engine)


def make_record(trt: Any, name: str, digest: str, gpu: Any, capability: str | None, flags: Any) -> dict[str, Any]:
    """What must be the same for an engine to be used again."""
    return {
        "schema_version": 1,
        "onnx": {"file": name, "sha256": digest},
        "tensorrt": {"package": trt.__name__, "version": trt.__version__},
        "compute_capability": capability or gpu["compute_capability"],
        "gpu": None if capability else gpu,  # built ahead of time, the engine has met no GPU
        "flags": {"strongly_typed": True, **flags},
    }


def is_current(engine: Path, wanted: dict[str, Any]) -> bool:
    """Is this engine of that ONNX file, GPU, TensorRT and flags, and unchanged?"""
    try:
        record = json.loads(engine.with_name(engine.name + ".json").read_text(encoding="utf-8"))
        same = all(record[key] == value for key, value in wanted.items())
        return same and hashlib.sha256(engine.read_bytes()).hexdigest() == record["engine"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def keep(engine: Path, data: Any, record: dict[str, Any]) -> None:
    """Write an engine and its record. Killed in between, the old record does not fit: the engine is built again."""
    try:
        engine.parent.mkdir(parents=True, exist_ok=True)
        replace_file(engine, data)
        replace_file(engine.with_name(engine.name + ".json"), (json.dumps(record, indent=1) + "\n").encode("utf-8"))
    except OSError as error:
        raise Problem(BAD_INPUT, f"{engine} cannot be written ({error.strerror}): choose another --out") from None


def replace_file(path: Path, data: Any) -> None:
    """The old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(temporary), str(path))
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def engine_path(bundle: Path, record: dict[str, Any], out: Path | None = None) -> Path:
    """Beside the bundle, never in it: its manifest lists every file. One folder for each GPU and TensorRT."""
    root = out or bundle.with_name(re.sub(r"\.(edgevl|onnx)$", "", bundle.name) + ".engines")
    if bundle.is_dir() and bundle in (root.resolve(), *root.resolve().parents):
        raise Problem(BAD_INPUT, f"{root} is inside the bundle, whose manifest lists every file: choose another --out")
    gpu, tensorrt = record["gpu"], record["tensorrt"]
    sm = "sm" + record["compute_capability"].replace(".", "")
    words = [*([gpu["name"]] if gpu else []), sm, tensorrt["package"], tensorrt["version"]]
    folder = root / re.sub(r"[^a-z0-9._]+", "-", "-".join(words).lower())
    return folder / re.sub(r"(\.onnx)?$", ".engine", record["onnx"]["file"], count=1)


def main(argv: list[str] | None = None, describe: Any = describe) -> int:
    options, out = arguments(argv), sys.stdout
    options.describe = describe
    if options.check:  # TensorRT's C++ prints to standard output here and there: it gets standard error instead
        out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
    code, message = 0, ""
    try:
        records = run(options, out)
        if options.check:
            print(json.dumps(records), file=out, flush=True)
    except Problem as problem:
        code, message = problem.exit_code, str(problem)
    except KeyboardInterrupt:
        code, message = 130, "interrupted; no engine was left half written"
    except Exception as error:
        code, message = 1, plain(f"{type(error).__name__}: {error} (unexpected)")
    if message:
        print(f"error: {message}", file=sys.stderr)
    return code


def arguments(argv: list[str] | None) -> argparse.Namespace:
    about, _, more = (__doc__ or "").partition("\n\n")
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, epilog=more, formatter_class=layout)
    add, here = parser.add_argument, Path(__file__).resolve().parent
    add("bundle", nargs="?", type=Path, default=here, help="or an ONNX file; default: the bundle that this lies in")
    add("--out", type=Path, metavar="FOLDER", help="default: NAME.engines beside the bundle")
    add("--capability", nargs="+", metavar="N.N", help="build ahead of time for these GPUs (TensorRT for RTX), as 8.6")
    add("--package", choices=PACKAGES, help="default: tensorrt if it is there")
    add("--workspace-mb", type=int, metavar="N", help="most scratch memory of a layer; default: TensorRT's")
    add("--tf32", action="store_true", help="let fp32 products use TF32: faster, 10 bits of mantissa")
    add("--force", action="store_true", help="build even if a fitting engine is there")
    add("--check", action="store_true", help="build, keep nothing, and print the records as JSON")
    add("--verbose", action="store_true", help="print TensorRT's own log")
    options = parser.parse_args(argv)
    if options.capability and options.package == "tensorrt":
        parser.error("--capability needs --package tensorrt_rtx: TensorRT itself builds for the GPU that is here")
    if options.workspace_mb is not None and options.workspace_mb < 1:
        parser.error(f"argument --workspace-mb: '{options.workspace_mb}' is not a positive number of MiB")
    return options


def run(options: argparse.Namespace, out: Any) -> list[dict[str, Any]]:
    """Build everything that was asked for and is not there. Returns the records of what was built."""
    path = options.bundle.resolve()
    models = [(name, *read_model(file, name, listed)) for file, name, listed in find_models(path)]
    trt, gpu = load_tensorrt(bool(options.capability), options.package), find_gpu()
    if not options.capability and gpu is None:
        raise Problem(MISSING, "no NVIDIA GPU answers here: run this on the device, or give --capability (see --help)")
    for capability in options.capability or ():
        capability_of(trt, capability)  # a wrong one is said before the first build
    flags, records = {"tf32": options.tf32, "workspace_mb": options.workspace_mb}, []
    for name, data, digest in models:
        wanted = [make_record(trt, name, digest, gpu, each, flags) for each in options.capability or (None,)]
        records += build_model(trt, data, wanted, options, out)
    return records


def build_model(trt: Any, data: bytes, wanted: Any, options: argparse.Namespace, out: Any) -> list[dict[str, Any]]:
    """Build the engines of one ONNX file that are not there."""
    name, path, parsed, built = wanted[0]["onnx"]["file"], options.bundle.resolve(), None, []
    log_of(trt).messages.clear()
    log_of(trt).verbose = options.verbose
    for record in wanted:
        engine = engine_path(path, record, options.out)
        if not (options.check or options.force) and is_current(engine, record):
            print(plain(f"{engine} is up to date"), file=out)
            continue
        parsed = parsed or parse(trt, data, name)
        serialized = build_one(trt, parsed, record, options.describe)
        if not options.check:
            keep(engine, serialized, record)
            size, seconds = serialized.nbytes / 2**20, record["engine"]["seconds"]
            print(plain(f"{engine}: {size:.1f} MiB, built in {seconds:.1f} s"), file=out)
        built.append(record)
    return built


def build_one(trt: Any, parsed: Any, record: dict[str, Any], describe: Any = describe) -> Any:
    """Build one engine, complete its record, and return the serialized engine."""
    started = time.perf_counter()
    data = build(trt, parsed, record)
    record["engine"] = {
        "seconds": round(time.perf_counter() - started, 2), "bytes": data.nbytes,
        "sha256": hashlib.sha256(data).hexdigest(), "layers": engine_layers(trt, data) if record["gpu"] else None,
    }  # fmt: skip
    record["network"] = describe(trt, parsed[1])
    record["messages"] = sorted({" ".join(message.split())[:500] for message in log_of(trt).messages})[:50]
    record["built"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return data


def engine_layers(trt: Any, data: Any) -> int:
    """Load the engine, which needs its GPU, and count what is left of the layers after fusion."""
    engine = trt.Runtime(log_of(trt)).deserialize_cuda_engine(data)
    if engine is None:
        raise Problem(REFUSED, "TensorRT cannot load the engine that it has just built")
    return engine.num_layers


if __name__ == "__main__":
    sys.exit(main())
