"""A fault planted in each stage of the Swift library is caught by its own suite. Slow: each is compiled and tested.

`pytest -m slow tests/apps/test_ios_faults.py`; needs what apps/ios/test.sh needs (root and debootstrap, or Swift).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IOS = ROOT / "apps" / "ios"
KIT, ONNX = "Sources/EdgeVLKit", "Sources/EdgeVLOnnx"
SUITE = "ConformanceTests|GoldenTests|ModelTests|PartsTests"
# What is planted: (file, text, the text that replaces it).
FAULTS = {
    "a key twice is taken": (f"{KIT}/JSON/StrictJSON.swift", "if values.contains(key)", "if false"),
    "half a surrogate pair is taken": (
        f"{KIT}/JSON/StrictJSON.swift",
        'if !isPair { try fail("half a surrogate pair") }',
        'if !isPair { return "?" }',
    ),
    "an unknown field is taken": (
        f"{KIT}/JSON/JSONSchema.swift",
        "if inner == .bool(false)",
        "if inner == .bool(true)",
    ),
    "digests are not compared": (f"{KIT}/Bundle/ModelBundle.swift", "if sha256 != entry.sha256", "if false"),
    "a file that is not listed is taken": (
        f"{KIT}/Bundle/Contents.swift",
        "if !manifest.files.contains(name) &&",
        "if false &&",
    ),
    "a program may take another type": (
        f"{KIT}/Bundle/Rules.swift",
        "return isPicture(spec, processing.size) ?",
        "return true ?",
    ),
    "two orientations are swapped": (f"{KIT}/Picture/Picture.swift", "[3, 4, 6, 7]", "[3, 4, 8, 7]"),
    "alpha is not rounded": (f"{KIT}/Picture/Picture.swift", "(255 - alpha) + 127)", "(255 - alpha))"),
    "gray of 16 bits is cut": (f"{KIT}/Picture/Picture.swift", "(value + 128) / 257", "value / 256"),
    "a transparent color of PNG is opaque": (f"{KIT}/Picture/PNG.swift", "isTransparent ? 0 : 255", "255"),
    "a filter of PNG is another": (f"{KIT}/Picture/PNG.swift", "abs(guess - left) <= abs(guess - up)", "true"),
    "a distance of inflate is another": (f"{KIT}/Picture/Inflate.swift", "code / 2 - 1))", "code / 2))"),
    "the passes of a resize are cut": (
        f"{KIT}/Picture/Resize.swift",
        "half: Int32 = 1 << (bits - 1)",
        "half: Int32 = 0",
    ),
    "no antialias": (f"{KIT}/Picture/Resize.swift", "max(scale, 1)", "1.0"),
    "another cubic kernel": (f"{KIT}/Picture/Resize.swift", "* -0.5 :", "* -0.75 :"),
    "the crop rounds up": (
        f"{KIT}/Picture/Geometry.swift",
        "(height - size) / 2) * width",
        "(height - size + 1) / 2) * width",
    ),
    "another gray of the letterbox": (f"{KIT}/Picture/Geometry.swift", "gray: UInt8 = 114", "gray: UInt8 = 127"),
    "accents are kept": (f"{KIT}/Text/WordPiece.swift", "!CodePoints.marks.contains($0)", '$0 != "-"'),
    "long words are looked up": (f"{KIT}/Text/WordPiece.swift", "maxWord = 100", "maxWord = 101"),
    "texts are not composed": (
        f"{KIT}/Text/ByteBPE.swift",
        "precomposedStringWithCanonicalMapping",
        "decomposedStringWithCanonicalMapping",
    ),
    "the last merge comes first": (f"{KIT}/Text/Merge.swift", "(rank, at) <", "(-rank, at) <"),
    "a long text loses its stop token": (
        f"{KIT}/Text/TextCodec.swift",
        "- before.count - after.count",
        "- before.count",
    ),
    "the mask is turned around": (f"{KIT}/Text/TextCodec.swift", "$0 < count ? 1 : 0", "$0 < count ? 0 : 1"),
    "nothing is remembered": (f"{KIT}/Run/Evaluation.swift", "outputs[number] = found\n", ""),
    "states start anew at each step": (
        f"{KIT}/Run/Evaluation.swift",
        "states[spec.name] = try tensor(name, found)",
        "_ = name",
    ),
    "a sequence never stops": (f"{KIT}/Run/Evaluation.swift", "if token == loop.stop { break }", ""),
    "the last of equal scores is taken": (
        f"{KIT}/Run/Evaluation.swift",
        "row[index] > row[best]",
        "row[index] >= row[best]",
    ),
    "the second program's batch is ignored": (
        f"{KIT}/Run/Tensor.swift",
        "row: Array(bytes[..<(bytes.count / shape[0])])",
        "row: Array(bytes.suffix(bytes.count / shape[0] - 4) + [0, 0, 0, 0])",
    ),
    "shares ignore the activation": (f"{KIT}/Decoding/Decoding.swift", '== "sigmoid"', '== "none"'),
    "scores of ranks are not scaled": (f"{KIT}/Decoding/Kinds.swift", "scale * $0 + bias", "$0 + bias"),
    "a box's center is its corner": (f"{KIT}/Decoding/Kinds.swift", "[a - c / 2, b - d / 2,", "[a, b,"),
    "the stop token is read out": (f"{KIT}/Decoding/Kinds.swift", "tokens.prefix { $0 != stop }", "tokens"),
    "weights may lie elsewhere": (f"{ONNX}/OnnxFile.swift", 'inner.kind == "external"', 'inner.kind == "none"'),
    "the artifact's tensors are not compared": (
        f"{ONNX}/OnnxSession.swift",
        "if !fits { try refuse",
        "if false { try refuse",
    ),
}


@pytest.fixture(scope="module")
def copy() -> Path:
    """Return a copy of the library that lies beside the rest, so that the compiler works on what changed only."""
    copy = ROOT / "build" / "ios-faults"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(IOS, copy / "apps" / "ios", ignore=shutil.ignore_patterns("DocumentTests.swift"))
    return copy / "apps" / "ios"


def suite(copy: Path) -> subprocess.CompletedProcess:
    """Run the tests of a copy of the library."""
    environment = {**os.environ, "EDGEVL_IOS": str(copy), "EDGEVL_PYTHON": sys.executable}
    environment["EDGEVL_SWIFT_BUILD"] = "/var/tmp/edgevl-swift-faults"
    command = [IOS / "test.sh", "--filter", SUITE]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=3600)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("swift") or os.geteuid() == 0), reason="needs Swift, or root to install it")
def test_the_copy_without_a_fault_passes(copy):
    run = suite(copy)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("swift") or os.geteuid() == 0), reason="needs Swift, or root to install it")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(copy, fault):
    file, text, other = FAULTS[fault]
    source = (copy / file).read_text(encoding="utf-8")
    assert source.count(text) == 1, f"{text} is there {source.count(text)} times"
    try:
        (copy / file).write_text(source.replace(text, other), encoding="utf-8")
        run = suite(copy)
    finally:
        (copy / file).write_text(source, encoding="utf-8")
    assert "Build complete!" in run.stdout, run.stdout[-2000:]
    assert run.returncode, run.stdout[-2000:]


def test_each_fault_is_one_place_of_the_library():
    for file, text, other in FAULTS.values():
        assert (IOS / file).read_text(encoding="utf-8").count(text) == 1 and text != other, f"{file}: {text}"
