"""Damage to files and folders: links, pipes, pictures, artifacts."""

import functools
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mutation_base import BASES, Mutation, bytes_of, edit_json, forged

# the file system


def _instead(file: str, make: Callable[[Path, Path], object]) -> Callable[[Path], object]:
    """Replace a file of the bundle: `make(path, outside)`."""

    def change(bundle: Path) -> None:
        path = bundle / file
        path.rename(bundle.parent / "tmp" / "moved")
        make(path, bundle.parent / "outside")

    return change


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        back = os.getcwd()
        os.chdir(path.parent)  # the name of a socket may not be long
        try:
            server.bind(path.name)
        finally:
            os.chdir(back)


def _aside(path: Path) -> Path:
    """Move it away; the path is free then."""
    path.rename(path.parent / "tmp" / "aside")
    return path


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


REPLACEMENTS: dict[str, Callable[[Path, Path], object]] = {
    "a link to a file outside": lambda path, outside: path.symlink_to(outside / path.name),
    "a relative link": lambda path, outside: path.symlink_to(Path("..") / "outside" / path.name),
    "a link to itself": lambda path, outside: path.symlink_to(path.name),
    "a link to nothing": lambda path, outside: path.symlink_to(outside / "nothing"),
    "a link to a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "a named pipe": lambda path, outside: os.mkfifo(path),
    "a socket": lambda path, outside: _socket(path),
    "a folder": lambda path, outside: path.mkdir(),
    "a sparse file of a TiB": lambda path, outside: _sparse(path),
    "a device": lambda path, outside: os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5)),
    "missing": lambda path, outside: None,
}


def file_system() -> Iterator[Mutation]:
    files = (
        "manifest.json",
        "labels.json",
        "tokenizer.json",
        "golden.json",
        "model.onnx",
        "golden/wide.png",
        "README.md",
    )
    chance = random.Random(4)
    for name, make in REPLACEMENTS.items():
        for file in ("manifest.json", *chance.sample(files[1:], 2)):
            yield Mutation(f"{file} is {name}", "onnx", _instead(file, make), "refused")
    for base, folder in (
        ("onnx", "golden"),
        ("coreml", "model.mlpackage"),
        ("coreml", "model.mlpackage/Data"),
        ("split", "model"),
    ):
        for name in ("a link to a file outside", "a link to itself", "a named pipe", "missing"):
            yield Mutation(f"{base} {folder} is {name}", base, _instead(folder, REPLACEMENTS[name]), "refused")
    whole = {
        "the bundle is a link loop": lambda bundle: _aside(bundle).symlink_to(bundle.name),
        "the bundle is a file": lambda bundle: _aside(bundle).write_text("x", encoding="utf-8"),
        "the bundle is a named pipe": lambda bundle: os.mkfifo(_aside(bundle)),
        "the bundle is empty": lambda bundle: _aside(bundle).mkdir(),
        "a link beside the files": lambda bundle: (bundle / "extra").symlink_to(bundle.parent / "outside"),
        "a file beside the files": lambda bundle: (bundle / "extra.bin").write_bytes(b"x"),
        "a name that is not UTF-8": lambda bundle: open(os.fsencode(bundle) + b"/\xff\xfe", "wb").close(),
        "a name with a line break": lambda bundle: (bundle / "a\nerror: b").write_text("x", encoding="utf-8"),
        "a name with markup": lambda bundle: (bundle / "[red]x[").write_text("x", encoding="utf-8"),
        "a deep folder": lambda bundle: (bundle / ("d/" * 900)).mkdir(parents=True),
    }
    for name, change in whole.items():
        yield Mutation(name, "onnx", change, "refused")


# golden pictures


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, extra: bytes = b"", depth: int = 8, color: int = 2) -> bytes:
    """A PNG with the given header and compressed data, right or wrong."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


@functools.cache
def _zeros(count: int) -> bytes:
    compressor = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(count >> 20)) + compressor.flush()


SQUARE = zlib.compress(bytes(52))  # four rows of four black pixels
PICTURES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "text": lambda data: b"this is no picture",
    "cut": lambda data: data[: len(data) // 2],
    "a header only": lambda data: data[:33],
    "60000 x 60000": lambda data: png(60000, 60000, zlib.compress(bytes(100))),
    "2^31 - 1 wide": lambda data: png(2**31 - 1, 1, zlib.compress(bytes(100))),
    "0 x 0": lambda data: png(0, 0, zlib.compress(b"")),
    "a bomb of text": lambda data: png(4, 4, SQUARE, _chunk(b"zTXt", b"k\0\0" + _zeros(300 << 20))),
    "a bomb of a profile": lambda data: png(4, 4, SQUARE, _chunk(b"iCCP", b"k\0\0" + _zeros(300 << 20))),
    "a bomb of pixels": lambda data: png(4, 4, _zeros(300 << 20)),
    "SVG": lambda data: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "PostScript": lambda data: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "an unknown color type": lambda data: png(4, 4, zlib.compress(bytes(52)), color=9),
    "a broken EXIF": lambda data: png(4, 4, zlib.compress(bytes(52)), _chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")),
    "another picture": lambda data: png(4, 4, zlib.compress(bytes(52))),
}  # fmt: skip


def pictures() -> Iterator[Mutation]:
    for name, make in PICTURES.items():
        yield forged(f"golden picture is {name}", "onnx", bytes_of("golden/wide.png", make), "golden")


# artifacts

ARTIFACTS = {
    "onnx": ("model.onnx",),
    "split": ("model/vision.onnx", "model/fusion.onnx"),
    "coreml": (
        "model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
        "model.mlpackage/Manifest.json",
    ),
}


def _flipped(seed: int, count: int, within: float) -> Callable[[bytes], bytes]:
    """Change `count` bytes, somewhere in the first share `within` of the file (where headers and the graph are)."""

    def make(data: bytes) -> bytes:
        chance, changed = random.Random(seed), bytearray(data)
        for _ in range(count):
            changed[chance.randrange(max(1, int(within * len(data))))] ^= chance.randrange(1, 256)
        return bytes(changed)

    return make


def broken_artifacts() -> Iterator[Mutation]:
    """Changed, cut and replaced artifacts, and artifacts whose weights lie elsewhere."""
    yield from _damaged_artifacts()
    yield from _external_data()


def _damaged_artifacts() -> Iterator[Mutation]:
    for base, files in ARTIFACTS.items():
        for file in files:
            for seed, (count, within) in enumerate(
                [(1, 1), (1, 0.1), (3, 0.02), (30, 1), (300, 1), (3, 0.5), (1, 0.3)]
            ):
                name = f"{base} {file}: {count} bytes changed in the first {within:.0%}"
                yield forged(name, base, bytes_of(file, _flipped(seed, count, within)), "artifact")
            for share in (0.3, 0.9):
                cut = bytes_of(file, lambda data, share=share: data[: int(share * len(data))])
                yield forged(f"{base} {file}: cut at {share}", base, cut, "refused forged")
    for name, data in {
        "empty": b"",
        "text": b"hello",
        "random": random.Random(9).randbytes(100_000),
        "zeros": bytes(99),
    }.items():
        for base in BASES:
            make = bytes_of(ARTIFACTS[base][0], lambda _, data=data: data)
            yield forged(f"{base} {ARTIFACTS[base][0]} is {name}", base, make, "refused forged")
    for name, path in {
        "up": "../../../outside/model.mlmodel", "absolute": "/etc/passwd", "null": "a\0b",
        "another": "com.apple.CoreML/weights",
    }.items():  # fmt: skip

        def root(bundle: Path, path: str = path) -> None:
            edit_json(
                bundle / "model.mlpackage/Manifest.json",
                lambda v: v["itemInfoEntries"][v["rootModelIdentifier"]].update(path=path),
            )

        yield forged(f"the package's model is {name}", "coreml", root, "refused forged")
    for name, place in {
        "up": "@model_path/../../../../outside/weight.bin",
        "absolute": "{outside}/weight.bin",
        "a device": "/dev/zero",
        "null": "@model_path/a\0b",
    }.items():
        yield forged(
            f"the weights of a Core ML program are {name}",
            "coreml",
            lambda b, place=place: _move_weights(b, place),
            "outside",
        )


def _move_weights(bundle: Path, place: str) -> None:
    from coremltools.proto import Model_pb2

    path = bundle / ARTIFACTS["coreml"][0]
    spec: Any = Model_pb2.Model()  # pyright: ignore[reportAttributeAccessIssue]
    spec.ParseFromString(path.read_bytes())
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                for value in operation.attributes.values():
                    if value.WhichOneof("value") == "blobFileValue":
                        value.blobFileValue.fileName = place.format(outside=bundle.parent / "outside")
    path.write_bytes(spec.SerializeToString())


def _external_data() -> Iterator[Mutation]:
    places = {
        "up": "../outside/weight.bin", "absolute": "{outside}/weight.bin", "a device": "/dev/zero",
        "home": "~/weight.bin", "the manifest": "manifest.json", "itself": "model.onnx", "null": "a\0b",
        "missing": "weights.bin", "encoded": "file://{outside}/weight.bin",
        "inner up": "golden/../../outside/weight.bin", "a link": "link.bin",
    }  # fmt: skip
    for name, place in places.items():
        yield forged(
            f"external data: {name}", "onnx", lambda bundle, place=place: _make_external(bundle, place), "outside"
        )
    for name, extra in {
        "2^62": {"offset": str(2**62)},
        "negative": {"offset": "-1"},
        "words": {"length": "many"},
        "2^70": {"length": str(2**70)},
    }.items():
        yield forged(
            f"external data of {name}",
            "onnx",
            lambda bundle, extra=extra: _make_external(bundle, "golden/data.png", extra),
            "outside",
        )


def _make_external(bundle: Path, place: str, extra: dict[str, str] | None = None) -> None:
    import onnx

    model = onnx.load(str(bundle / "model.onnx"))
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    if place == "link.bin":
        (bundle / "link.bin").symlink_to(bundle.parent / "outside" / "weight.bin")
    elif place.endswith(".png"):  # a name that a bundle may hold
        (bundle / place).write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": place.format(outside=bundle.parent / "outside"), **(extra or {})}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
