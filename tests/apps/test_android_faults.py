"""A fault planted in each stage of the Kotlin library is caught by its own suite. Slow: each is compiled and tested.

`pytest -m slow tests/apps/test_android_faults.py`; needs Maven and a JDK. One JVM compiles and tests them all, one
after another (PlantedFaults.java).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANDROID = ROOT / "apps" / "android"
FIXTURES = ROOT / "build" / "android-fixtures"
DRIVER = Path(__file__).with_name("PlantedFaults.java")
CORE = "edgevl-core/src/main/kotlin/edgevl"
TESTS = ("CodePointsTest", "ExifTest", "PictureTest", "StrictJsonTest", "YuvFrameTest", "run.TensorTest", "FramesTest",
         "onnx.OnnxFileTest", "ConformanceTest", "ModelTest", "GoldenTest")  # fmt: skip
ONNX = "edgevl-onnxruntime/src/main/kotlin/edgevl/onnx"
# What is planted: (file, text, the text that replaces it).
FAULTS: dict[str, tuple[str, str, str]] = {
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
    "programs may need each other": (
        f"{CORE}/bundle/Rules.kt",
        "if (ready.isEmpty()) return waiting.keys.firstOrNull()",
        "if (ready.isEmpty()) return null",
    ),
    "a merge may be there twice": (f"{CORE}/text/ByteBpe.kt", "rank) != null)", "rank) == -1)"),
    "a byte may have no piece": (
        f"{CORE}/text/ByteBpe.kt",
        "(symbols + START + STOP).first",
        "listOf(START, STOP).first",
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
    "long words are looked up": (f"{CORE}/text/WordPiece.kt", "word.length) > MAX_WORD", "word.length) > MAX_WORD + 1"),
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
    "chroma belongs to one row": (f"{CORE}/picture/YuvFrame.kt", "if (row % 2 == 0) {", "if (row == 0) {"),
    "a frame is turned the other way": (
        f"{CORE}/picture/YuvFrame.kt",
        "90 to 6, 180 to 3, 270 to 8",
        "90 to 8, 180 to 3, 270 to 6",
    ),
    "EXIF is always little endian": (
        f"{CORE}/picture/Exif.kt",
        "ByteOrder.BIG_ENDIAN",
        "ByteOrder.LITTLE_ENDIAN",
    ),
    "weights may lie elsewhere": (
        f"{ONNX}/OnnxFile.kt",
        'if (inner == "external") return true',
        'if (inner == "external") return false',
    ),
    "the artifact's tensors are not compared": (f"{ONNX}/OnnxRuntime.kt", "if (fits) continue", "continue"),
}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> tuple[str, str]:
    """Compile the library; return its folders of classes, and what a JVM needs besides: Kotlin's compiler, too."""
    fixtures = [sys.executable, ROOT / "tests/apps/android_fixtures.py", FIXTURES]
    subprocess.run(fixtures, check=True)
    code = "import jvm_latency; print(jvm_latency.classpath())"
    paths = output(sys.executable, "-c", code, cwd=ROOT / "tools").split(os.pathsep)
    own = [path for path in paths if path.startswith(str(ANDROID))]
    others = [path for path in paths if path not in own]
    return os.pathsep.join(own), os.pathsep.join([*others, *compiler(tmp_path_factory.mktemp("compiler"))])


def output(*command: object, **options) -> str:
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, encoding="utf-8", **options)
    assert run.returncode == 0, run.stderr + run.stdout
    return run.stdout.strip()


def compiler(folder: Path) -> list[str]:
    """Return the files of the Kotlin compiler that apps/android is built with."""
    version = re.search("<kotlin.version>(.*?)<", (ANDROID / "pom.xml").read_text(encoding="utf-8"))
    assert version
    parts = {"groupId": "org.jetbrains.kotlin", "artifactId": "kotlin-compiler-embeddable", "version": version[1]}
    needs = "".join(f"<{name}>{value}</{name}>" for name, value in parts.items())
    about = (
        "<modelVersion>4.0.0</modelVersion><groupId>edgevl</groupId><artifactId>faults</artifactId><version>1</version>"
    )
    project = f"<project>{about}<dependencies><dependency>{needs}</dependency></dependencies></project>"
    (folder / "pom.xml").write_text(project, encoding="utf-8")
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath"
    output("mvn", "-q", "-B", "-f", folder / "pom.xml", goal, f"-Dmdep.outputFile={folder / 'list'}")
    return (folder / "list").read_text(encoding="utf-8").strip().split(os.pathsep)


class Java:
    """A JVM that compiles a module and runs the suite on it."""

    def __init__(self, own: str, libraries: str, folder: Path):
        self._own, self._folder = own, folder
        self._log = (folder / "log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            ["java", "-Xmx2g", f"-Dedgevl.fixtures={FIXTURES}", "-cp", libraries, DRIVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, encoding="utf-8",
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"}, cwd=ANDROID / "edgevl-core",
        )  # fmt: skip

    def verdict(self, file: str = f"{CORE}/Model.kt", text: str = "", other: str = "") -> str:
        """Say what becomes of the suite where a text of a file stands for another: see PlantedFaults.java."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        module, sources, classes = file.split("/")[0], self._folder / "sources", self._folder / "classes"
        for folder in (sources, classes):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ANDROID / module / "src/main/kotlin", sources)
        source = sources / file.removeprefix(f"{module}/src/main/kotlin/")
        source.write_text(source.read_text(encoding="utf-8").replace(text, other), encoding="utf-8")
        tests = " ".join(f"edgevl.{name}" for name in TESTS)
        print(module, sources, classes, self._own, tests, sep="\t", file=stdin, flush=True)
        return stdout.readline().strip()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


@pytest.fixture(scope="module")
def java(libraries: tuple[str, str], tmp_path_factory) -> Iterator[Java]:
    process = Java(*libraries, tmp_path_factory.mktemp("faults"))
    yield process
    process.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_planted_is_there_once(fault):
    file, text, _ = FAULTS[fault]
    assert (ANDROID / file).read_text(encoding="utf-8").count(text) == 1


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mvn"), reason="needs Maven")
def test_the_suite_passes_where_nothing_is_planted(java):
    assert java.verdict() == "passed"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mvn"), reason="needs Maven")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(java, fault):
    assert java.verdict(*FAULTS[fault]).startswith("failed")
