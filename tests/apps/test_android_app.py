"""`edgevl app android`: a project that needs nothing outside of it, with a checked bundle among its assets."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgevl.app.android import ASSETS, is_left_out, write_android_project
from edgevl.errors import InputError, VerificationFailed

MODULES = ("edgevl-core", "edgevl-onnxruntime", "edgevl-litert", "edgevl-executorch", "edgevl-android", "sample")


@pytest.fixture(scope="module")
def project(bundles, tmp_path_factory) -> Path:
    return write_android_project(tmp_path_factory.mktemp("android") / "project", bundles["onnx"])


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_bundle_lies_among_the_assets_byte_for_byte(project, bundles):
    assert digests(project / ASSETS) == digests(bundles["onnx"])
    about = json.loads((project / "edgevl-app.json").read_text(encoding="utf-8"))
    assert about["bundle"] == {"path": str(ASSETS), "name": "tiny-test", "target": "onnx", "precision": "fp32"}


def test_every_module_has_what_gradle_and_maven_look_for(project):
    included = re.findall(r'":([a-z-]+)"', (project / "settings.gradle.kts").read_text(encoding="utf-8"))
    assert set(included) == set(MODULES)
    built = re.findall(r"<module>(.*?)</module>", (project / "pom.xml").read_text(encoding="utf-8"))
    assert len(built) == 5 and all((project / name / "pom.xml").is_file() for name in built)
    for name in MODULES:
        gradle = (project / name / "build.gradle.kts").read_text(encoding="utf-8")
        assert list((project / name / "src/main/kotlin").rglob("*.kt"))
        assert "consumerProguardFiles" not in gradle or (project / name / "consumer-rules.pro").is_file()
        assert name == "edgevl-core" or "minSdk = 28" in gradle
    assert "useLegacyPackaging = false" in (project / "sample/build.gradle.kts").read_text(encoding="utf-8")  # 16 KB


def test_nothing_leads_out_of_the_project(project):
    """No path upward, no link, nothing of the repository: fixtures, its Python, its rules of style."""
    assert not [path for path in project.rglob("*") if path.is_symlink()]
    for path in [*project.rglob("*.xml"), *project.rglob("*.kts")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\.\./|fixtures|ktlint|python|repository:|test-jar", text), path
    tests = {path.name for path in project.rglob("*Test.kt")}
    assert (
        "BundleTest.kt" in tests
        and not {"ConformanceTest.kt", "CodePointsTest.kt"} & tests
        and "MainActivityTest.kt" not in tests
    )
    assert {path.name for path in (project / "edgevl-core/schemas").iterdir()} == {
        "bundle.schema.json", "bundle-1.schema.json",
    }  # fmt: skip


def test_git_keeps_the_bundle(project):
    assert "assets" not in (project / ".gitignore").read_text(encoding="utf-8")
    assert "{" not in (project / "README.md").read_text(encoding="utf-8")


def test_any_name_of_a_bundle_will_do(bundles, tmp_path):
    """It is opened by the place among the assets, whatever its folder was called."""
    odd = Path(shutil.copytree(bundles["onnx"], tmp_path / "_my bündle~.edgevl"))
    (odd / ".DS_Store").write_bytes(b"x")  # what a Finder leaves is not carried along
    project = write_android_project(tmp_path / "project", odd)
    assert digests(project / ASSETS) == digests(bundles["onnx"])


@pytest.mark.parametrize(
    "name, left_out",
    [("golden/0.png", False), ("_a.json", False), (".a.json", True), ("_g/0.png", True), ("a.json~", True)],
)
def test_names_that_android_leaves_out(name, left_out):
    assert is_left_out(name) == left_out


def test_a_file_that_would_not_get_into_the_app_is_named(bundles, tmp_path):
    copy = Path(shutil.copytree(bundles["onnx"], tmp_path / "copy.edgevl"))
    text = (copy / "manifest.json").read_text(encoding="utf-8")
    (copy / "manifest.json").write_text(text.replace('"labels.json"', '".labels.json"'), encoding="utf-8")
    (copy / "labels.json").rename(copy / ".labels.json")
    with pytest.raises(InputError, match=r'"\.labels\.json" of the bundle would not get into an app'):
        write_android_project(tmp_path / "project", copy)


def test_what_the_app_cannot_use_is_refused(bundles, small, tmp_path):
    out = tmp_path / "project"
    for bundle, message in (
        (bundles["tensorrt"], "tensorrt does not run in this app: export with --target onnx"),
        (small["towers"], "asks about one picture, this bundle ranks texts by pictures"),
        (small["statement"], "asks about one picture, this bundle reads 2 pictures at once"),
        (tmp_path / "nothing", "nothing"),
        (tmp_path, "holds no manifest.json"),
    ):
        with pytest.raises(InputError, match=message):
            write_android_project(out, bundle)
    damaged = Path(shutil.copytree(bundles["onnx"], tmp_path / "copy.edgevl"))
    (damaged / "labels.json").write_text("[]", encoding="utf-8")
    with pytest.raises(VerificationFailed, match=r"labels\.json"):
        write_android_project(out, damaged)
    assert not out.exists()


def test_only_such_a_project_is_replaced(project, bundles, tmp_path):
    """A Gradle project of somebody else is never removed, whatever is forced."""
    with pytest.raises(InputError, match="--force"):
        write_android_project(project, bundles["onnx"])
    (tmp_path / "settings.gradle.kts").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not a project of edgevl app android"):
        write_android_project(tmp_path, bundles["onnx"], force=True)
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    write_android_project(copy, bundles["split"], force=True)
    assert digests(copy / ASSETS) == digests(bundles["split"])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mvn"), reason="needs Maven and a JDK")
def test_the_project_compiles_and_passes_its_tests(project):
    """As a developer would run it, with the bundle that lies in it."""
    run = subprocess.run(
        ["mvn", "-q", "-B", "-f", project / "pom.xml", "test"], capture_output=True, text=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stdout[-3000:]
    reports = project / "sample/target/surefire-reports"
    assert 'tests="2"' in (reports / "TEST-edgevl.sample.BundleTest.xml").read_text(encoding="utf-8")
