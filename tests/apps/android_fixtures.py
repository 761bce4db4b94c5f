"""What the tests of apps/android read: `python tests/apps/android_fixtures.py FOLDER`.

FOLDER/conformance: what `edgevl app conformance` writes (docs/conformance.md). FOLDER/mutants: damaged bundles of
`mutations`, and in verdicts.json what the board's script says of each, which the Kotlin library must say, too. Nothing
is made again once FOLDER/complete is there.
"""

import importlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("", "apps", "bundle")), str(ROOT / "apps/jetson")]
BASES = ("onnx", "split", "onnx2", "split2")  # of mutations: of schema 1 but for those with a 2
FINE, REFUSED, CRASHED = "fine", "refused", "crashed"
load: Callable[[str], Any] = importlib.import_module  # of a module that lies in none of our packages


def main(folder: Path) -> None:
    if (folder / "complete").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "edgevl", "app", "conformance", "--out", str(folder / "conformance")]
    subprocess.run(command, check=True, cwd=ROOT)
    verdicts = dict(mutants(folder / "mutants"))
    (folder / "mutants" / "verdicts.json").write_text(json.dumps(verdicts, indent=1), encoding="utf-8")
    (folder / "complete").touch()


def mutants(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (name of a folder and what was done to it, verdict) of each mutant."""
    whole, limits, newer = (load(name) for name in ("mutations", "mutations_limits", "mutations_schema_2"))
    bases = base_bundles(folder / "bases")
    outside = Path(shutil.copytree(bases["onnx"], folder / "outside"))
    chosen = random.Random(0).sample(whole.all_mutations(), 300)
    mutations = [each for each in (*chosen, *limits.limits(), *newer.schema_2()) if each.base in bases]
    for number, mutation in enumerate(mutations):
        place = folder / f"{number:04}"
        (place / "tmp").mkdir(parents=True)
        (place / "outside").symlink_to(outside)  # mutations name files there, and move some to tmp
        bundle = Path(shutil.copytree(bases[mutation.base], place / "x.edgevl"))
        mutation.change(bundle)
        verdict = in_a_child(lambda bundle=bundle: board_takes(bundle))
        share(bundle, bases[mutation.base])
        yield f"{place.name}: {mutation.name}", verdict


def base_bundles(folder: Path) -> dict[str, Path]:
    from older_bundles import as_schema_1
    from tiny_models import write_tiny_model

    from edgevl.bundle_export import export_bundle

    model = write_tiny_model(folder / "tiny-test")
    found = {}
    for layout, name in (("single", "onnx"), ("split", "split")):
        found[f"{name}2"] = export_bundle(model, "onnx", out=folder / f"{name}2.edgevl", layout=layout)
        found[name] = as_schema_1(Path(shutil.copytree(found[f"{name}2"], folder / f"{name}.edgevl")))
    return found


def board_takes(bundle: Path) -> bool:
    """Open a bundle as apps/jetson does, and replay its golden cases."""
    try:
        opened = load("bundle_reader").Bundle(bundle)
        runner = load("onnx_runner").OnnxRunner(opened, 1)
        load("golden_cases").replay(opened, load("pipeline").Pipeline(opened, runner, [], []).values)
    except load("problems").Problem:
        return False
    return True


def in_a_child(check: Callable[[], bool]) -> str:
    """Say what becomes of a check; native code may take its process with it."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(0 if check() else 4)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: FINE, 4: REFUSED}.get(status, CRASHED)


def share(bundle: Path, base: Path) -> None:
    """Make files that were not changed links to the same content, to save room."""
    for file in base.rglob("*"):
        copy = bundle / file.relative_to(base)
        plain = file.is_file() and copy.is_file() and copy.resolve() == copy.absolute()  # no link on the way
        if plain and file.stat().st_size == copy.stat().st_size and file.read_bytes() == copy.read_bytes():
            copy.unlink()
            os.link(file, copy)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
