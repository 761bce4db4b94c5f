"""`edgevl app android`: a project with a bundle in place, an Android app for Gradle, which Maven tests here."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import edgevl
from edgevl.app.project import place_bundle, refuse_for_app
from edgevl.atomic import Kind, atomic_folder, check_destination
from edgevl.bundle.folder import Bundle
from edgevl.errors import InputError
from edgevl.progress import Progress

SOURCES = Path(edgevl.__file__).parent / "apps" / "android"
SCHEMAS = SOURCES.parent / "jetson"  # where those lie that every reader of bundles shares
PROJECT = Kind("project of edgevl app android", "edgevl-app.json", "FOLDER/project")
ASSETS = PurePosixPath("sample/src/main/assets/model.edgevl")  # where the app looks for its bundle
# Tests that need nothing but the project. The others read what this repository's Python writes.
TESTS = ("edgevl-core/src/test/", "sample/src/test/kotlin/edgevl/sample/BundleTest.kt")
BUILT = {"target", "build", ".gradle", "assets"}
LEFT_OUT = {"README.md", "local.properties", "PROJECT.md", ".gitignore", ".editorconfig", "CodePointsTest.kt"}
IGNORED = "target/\n.gradle/\nbuild/\nlocal.properties\n"  # ours ignores the bundle, too
REPOSITORY = re.compile(r" *<!-- repository: .*? -->\n.*?<!-- end -->\n", re.DOTALL)  # of a pom: what only we need


def write_android_project(
    out: str | Path, bundle: str | Path | None = None, force: bool = False, progress: Progress | None = None
) -> Path:
    """Write a project of the libraries, the sample app and a bundle among its assets; return its folder.

    Args:
        out: the folder, which is not there yet.
        bundle: for onnx, that answers about one picture; None exports the embedded model, in two programs.
        force: replace a project that is there, with what was changed in it.
        progress: called as progress(done, total, text).

    Raises:
        InputError: the folder is there or cannot be written, or the app cannot use the bundle.
        VerificationFailed: the bundle is damaged.
    """
    check_destination(Path(out), force, PROJECT)
    with atomic_folder(Path(out), force, PROJECT) as folder:
        _copy_sources(folder)
        opened = place_bundle(folder / ASSETS, bundle, "onnx", _refuse, progress)
        _write_about(folder, opened)
    return Path(out)


def _copy_sources(folder: Path) -> None:
    for name in _sources():
        text = (SOURCES / name).read_text(encoding="utf-8")
        if name.endswith(("pom.xml", ".gradle.kts")):
            text = REPOSITORY.sub("", text).replace("../../jetson", "schemas")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    schemas = folder / "edgevl-core" / "schemas"
    schemas.mkdir()
    for path in sorted(SCHEMAS.glob("*.schema.json")):
        shutil.copyfile(path, schemas / path.name)


def _sources() -> Iterator[str]:
    """Yield the path of each file that goes into a project, with slashes."""
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        place = path.relative_to(SOURCES)
        name = place.as_posix()
        is_other_test = "/src/test/" in name and not name.startswith(TESTS)
        if not BUILT.intersection(place.parts) and not is_other_test and place.name not in LEFT_OUT:
            yield name


def _refuse(bundle: Bundle) -> None:
    """Raise `InputError` for a bundle that the app could not use on a phone."""
    refuse_for_app(bundle, "onnx", "the libraries")
    for name in bundle.manifest.files:
        if is_left_out(name):
            raise InputError(f'"{name}" of the bundle would not get into an app: Android leaves such names out')


def is_left_out(name: str) -> bool:
    """Say if Android's packager ignores a file: its default `ignoreAssetsPattern`, as far as a bundle can meet it."""
    *folders, file = name.split("/")
    return any(part[0] == "." or part[-1] == "~" for part in (*folders, file)) or any(
        part[0] == "_" for part in folders
    )


def _write_about(folder: Path, bundle: Bundle) -> None:
    """Write the project's README, and the file by which --force knows it."""
    manifest = bundle.manifest
    values = {
        "NAME": manifest.name,
        "PRECISION": manifest.precision,
        "PLACE": str(ASSETS),
        "VERSION": edgevl.__version__,
    }
    text = (SOURCES / "PROJECT.md").read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")
    (folder / ".gitignore").write_text(IGNORED, encoding="utf-8", newline="\n")
    about = {"edgevl": edgevl.__version__, "bundle": {"path": str(ASSETS), "name": manifest.name,
             "target": manifest.target, "precision": manifest.precision}}  # fmt: skip
    (folder / PROJECT.marker).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8", newline="\n")
