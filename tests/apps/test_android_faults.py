"""A fault planted in each stage of the Kotlin library is caught by its own suite. Slow: each is compiled and tested.

`pytest -m slow tests/apps/test_android_faults.py`; needs Maven and a JDK.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANDROID = ROOT / "apps" / "android"
FIXTURES = ROOT / "build" / "android-fixtures"
CORE = "edgevl-core/src/main/kotlin/edgevl"
SUITE = "ConformanceTest,GoldenTest,ModelTest"
ONNX = "edgevl-onnxruntime/src/main/kotlin/edgevl/onnx"
# What is planted: (file, text, the text that replaces it).
FAULTS = {
    "a key twice is taken": (f"{CORE}/json/StrictJson.kt", "if (key in values)", "if (false)"),
    "half a surrogate pair is taken": (f"{CORE}/json/StrictJson.kt", "if (hasHalfAPair(it))", "if (false)"),
    "an unknown field is taken": (f"{CORE}/json/Schema.kt", "if (wanted == false)", "if (wanted == null)"),
    "digests are not compared": (f"{CORE}/bundle/Bundle.kt", "if (sha256 != entry.sha256)", "if (false)"),
    "a file that is not listed is taken": (
        f"{CORE}/bundle/Contents.kt",
        "if (name !in manifest.files &&",
        "if (false &&",
    ),
    "a program may take another type": (
        f"{CORE}/bundle/Rules.kt",
        "if (isPicture(spec, processing.size))",
        "if (true)",
    ),
    "two orientations are swapped": (f"{CORE}/picture/Picture.kt", "setOf(3, 4, 6, 7)", "setOf(3, 4, 8, 7)"),
    "alpha is not rounded": (f"{CORE}/picture/Picture.kt", "(WHITE - alpha) + 127)", "(WHITE - alpha))"),
    "gray of 16 bits is cut": (f"{CORE}/picture/Picture.kt", "(value + 128) / 257", "value / 256"),
    "a transparent color of PNG is opaque": (
        f"{CORE}/picture/Png.kt",
        "                else -> 0\n",
        "                else -> 255\n",
    ),
    "the passes of a resize are cut": (
        f"{CORE}/picture/Resize.kt",
        "private const val HALF = 1 shl (BITS - 1)",
        "private const val HALF = 0",
    ),
    "no antialias": (f"{CORE}/picture/Resize.kt", "max(scale, 1.0)", "1.0"),
    "another cubic kernel": (f"{CORE}/picture/Resize.kt", "* -0.5\n", "* -0.75\n"),
    "the crop rounds up": (f"{CORE}/picture/Geometry.kt", "(height - size) / 2)", "(height - size + 1) / 2)"),
    "another gray of the letterbox": (f"{CORE}/picture/Geometry.kt", "GRAY: Byte = 114", "GRAY: Byte = 127"),
    "accents are kept": (f"{CORE}/text/WordPiece.kt", "if (!CodePoints.marks.get(it))", "if (true)"),
    "long words are looked up": (f"{CORE}/text/WordPiece.kt", "MAX_WORD = 100", "MAX_WORD = 101"),
    "texts are not composed": (f"{CORE}/text/ByteBpe.kt", "Normalizer.Form.NFC", "Normalizer.Form.NFD"),
    "the last merge comes first": (f"{CORE}/text/Symbols.kt", "{ it.rank }", "{ -it.rank }"),
    "a long text loses its stop token": (f"{CORE}/text/TextCodec.kt", "- before.size - after.size", "- before.size"),
    "the mask is turned around": (f"{CORE}/text/TextCodec.kt", "if (it < count) 1 else 0", "if (it < count) 0 else 1"),
    "nothing is remembered": (
        f"{CORE}/run/Evaluation.kt",
        "outputs.getOrPut(call) { run(call, emptyMap(), 0, 0) }",
        "run(call, emptyMap(), 0, 0)",
    ),
    "states start anew at each step": (
        f"{CORE}/run/Evaluation.kt",
        "spec.name to found.getValue(state.name)",
        "spec.name to states.getValue(spec.name)",
    ),
    "a sequence never stops": (f"{CORE}/run/Evaluation.kt", "if (token == loop.stop) break", ""),
    "the last of equal scores is taken": (
        f"{CORE}/run/Evaluation.kt",
        "row[index] > row[best]",
        "row[index] >= row[best]",
    ),
    "the second program's batch is ignored": (
        f"{CORE}/run/Tensor.kt",
        "data.capacity() / shape[0]",
        "data.capacity() / shape[0] - 4",
    ),
    "shares ignore the activation": (f"{CORE}/decoding/Kinds.kt", '== "sigmoid"', '== "none"'),
    "scores of ranks are not scaled": (f"{CORE}/decoding/Kinds.kt", "scale * product", "product"),
    "a box's center is its corner": (f"{CORE}/decoding/Kinds.kt", "listOf(a - c / 2, b - d / 2,", "listOf(a, b,"),
    "the stop token is read out": (f"{CORE}/decoding/Kinds.kt", ".takeWhile { it != stop }", ""),
    "weights may lie elsewhere": (
        f"{ONNX}/OnnxFile.kt",
        'if (inner == "external") return true',
        'if (inner == "external") return false',
    ),
    "the artifact's tensors are not compared": (f"{ONNX}/OnnxRuntime.kt", "if (fits) continue", "continue"),
}


@pytest.fixture(scope="module")
def fixtures() -> Path:
    subprocess.run([sys.executable, ROOT / "tests/apps/android_fixtures.py", FIXTURES], check=True)
    return FIXTURES


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mvn"), reason="needs Maven")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fixtures, tmp_path, fault):
    file, text, other = FAULTS[fault]
    copy = tmp_path / "apps" / "android"
    for name in ("android", "jetson"):
        shutil.copytree(ROOT / "apps" / name, tmp_path / "apps" / name, ignore=shutil.ignore_patterns("target"))
    source = (copy / file).read_text(encoding="utf-8")
    assert source.count(text) == 1, f"{text} is there {source.count(text)} times"
    (copy / file).write_text(source.replace(text, other), encoding="utf-8")
    options = ["-Dktlint.skip=true", "-Dexec.skip=true", f"-Dtest={SUITE}", "-Dsurefire.failIfNoSpecifiedTests=false"]
    command = ["mvn", "-q", "-B", "-f", copy / "pom.xml", "-pl", "edgevl-core,edgevl-onnxruntime", "test", *options]
    command += [f"-Dedgevl.fixtures={fixtures}"]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=600)
    assert "COMPILATION" not in run.stdout.upper(), run.stdout
    assert run.returncode and "There are test failures" in run.stdout, run.stdout[-2000:]
