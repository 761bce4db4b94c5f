"""`edgevl app ios`: the Swift package EdgeVLKit and its SwiftUI app, with a bundle in place, for Xcode."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import edgevl
from edgevl.app.project import place_bundle, refuse_for_app
from edgevl.atomic import Kind, atomic_folder, check_destination
from edgevl.bundle.folder import Bundle
from edgevl.progress import Progress

SOURCES = Path(edgevl.__file__).parent / "apps" / "ios"
PROJECT = Kind("project of edgevl app ios", "edgevl-app.json", "FOLDER/project")
RESOURCES = PurePosixPath("Sample.swiftpm/App/model.edgevl")  # where the app looks for its bundle
PARTS = ("Sources/EdgeVLKit/", "Sources/EdgeVLPacked/", "Sample.swiftpm/")
LINUX = re.compile(r"\n#if os\(Linux\)\n.*?#endif\n", re.DOTALL)  # of Package.swift: what only our tests need
IGNORED = ".build/\n.swiftpm/\nxcuserdata/\nDerivedData/\n"
ABOUT = """# {name}, for iOS

Made by `edgevl app ios` (EdgeVL {version}). Open `Sample.swiftpm` in Xcode 15 or later, choose your team, and run it on
a device: the app asks about pictures, with the bundle in `{place}` ({precision}). "Test this device" replays the golden
cases of the bundle.

`Package.swift` is the library EdgeVLKit: an app of your own adds this folder as a local package, and a bundle to its
resources, as a folder reference.
"""


def write_ios_project(
    out: str | Path, bundle: str | Path | None = None, force: bool = False, progress: Progress | None = None
) -> Path:
    """Write a project of the library, the sample app and a bundle among its resources; return its folder.

    Args:
        out: the folder, which is not there yet.
        bundle: for coreml, that answers about one picture; None exports the embedded model, in two programs.
        force: replace a project that is there, with what was changed in it.
        progress: called as progress(done, total, text).

    Raises:
        InputError: the folder is there or cannot be written, or the app cannot use the bundle.
        VerificationFailed: the bundle is damaged.
    """
    check_destination(Path(out), force, PROJECT)
    with atomic_folder(Path(out), force, PROJECT) as folder:
        for name in _sources():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCES / name, folder / name)
        package = (SOURCES / "Package.swift").read_text(encoding="utf-8")
        (folder / "Package.swift").write_text(LINUX.sub("", package), encoding="utf-8", newline="\n")
        manifest = place_bundle(folder / RESOURCES, bundle, "coreml", _refuse, progress).manifest
        about = ABOUT.format(
            name=manifest.name, version=edgevl.__version__, place=RESOURCES, precision=manifest.precision
        )
        (folder / "README.md").write_text(about, encoding="utf-8", newline="\n")
        (folder / ".gitignore").write_text(IGNORED, encoding="utf-8", newline="\n")
        (folder / PROJECT.marker).write_text(json.dumps({"bundle": str(RESOURCES)}) + "\n", encoding="utf-8")
    return Path(out)


def _sources() -> Iterator[str]:
    """Yield the path of each file of the library and the app, with slashes."""
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        name = path.relative_to(SOURCES).as_posix()
        if name.startswith(PARTS) and not name.startswith(f"{RESOURCES}/"):
            yield name


def _refuse(bundle: Bundle) -> None:
    """Raise `InputError` for a bundle that the app could not use on a phone."""
    refuse_for_app(bundle, "coreml", "EdgeVLKit")
