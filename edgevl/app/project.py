"""What the projects of `edgevl app android` and `edgevl app ios` share: a bundle in place, which their app can use."""

import shutil
from collections.abc import Callable
from pathlib import Path

from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import read_golden
from edgevl.bundle.manifest import MANIFEST
from edgevl.errors import InputError
from edgevl.progress import Progress


def place_bundle(
    place: Path,
    bundle: str | Path | None,
    target: str,
    refuse: Callable[[Bundle], None],
    progress: Progress | None,
) -> Bundle:
    """Copy a bundle to `place`, the manifest and its files only; None exports the embedded model, in two programs.

    refuse: raises `InputError` for a bundle that the app cannot use, before anything is copied.
    """
    if bundle is None:
        from edgevl.bundle_export import export_bundle

        return Bundle.open(export_bundle(None, target, out=place, layout="split", progress=progress))
    opened = Bundle.open(bundle)
    opened.require_intact()
    refuse(opened)
    for name in (MANIFEST, *opened.manifest.files):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(opened.file(name), place / name)
    return Bundle.open(place)


def refuse_for_app(bundle: Bundle, target: str, library: str) -> None:
    """Raise `InputError` for a bundle of another target, or that does not answer about one picture."""
    manifest = bundle.manifest
    if manifest.target != target:
        raise InputError(f"a bundle for {manifest.target} does not run in this app: export with --target {target}")
    pictures, kind = len(read_golden(bundle).cases[0].pictures), manifest.decoding["kind"]
    if kind == "rank" or pictures != 1:
        what = "ranks texts by pictures" if kind == "rank" else f"reads {pictures} pictures at once"
        raise InputError(f"the app asks about one picture, this bundle {what}: use {library} in an app of your own")
