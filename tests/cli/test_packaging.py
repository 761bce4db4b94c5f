"""A wheel built from a clone holds the linked folders and the data as real files, and works from anywhere."""

import contextlib
import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.command.build_py import build_py
from setuptools.config.pyprojecttoml import read_configuration

ROOT = Path(__file__).parents[2]
WEB = ROOT / "apps" / "web"
SITE = "edgevl/app/site/"


def run(*command: object, **options) -> str:
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options, encoding="utf-8")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_built_web_app_is_packed(tmp_path):
    """What `npm run build` leaves is ignored by git: the patterns of pyproject.toml must name every folder of it."""
    names = ["index.html", "sw.js", "assets/index-a1.js", "edgevl/worker-onnx.js", "edgevl/ort/ort.wasm"]
    for name in names:
        (tmp_path / "app" / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / "site" / name).touch()
    patterns = read_configuration(ROOT / "pyproject.toml")["tool"]["setuptools"]["package-data"]
    command = build_py(Distribution({"packages": ["edgevl"], "package_data": patterns}))
    command.finalize_options()
    command.analyze_manifest()
    found = command.find_data_files("edgevl", str(tmp_path))
    packed = {Path(name).relative_to(tmp_path / "app/site").as_posix() for name in found if Path(name).is_file()}
    assert packed == set(names)


@pytest.fixture(scope="module")
def site() -> Path:
    """The web app, built here: by Node, if nobody has built it."""
    folder = ROOT / SITE
    if not (folder / "index.html").is_file():
        if not (WEB / "node_modules").is_dir():
            pytest.skip("the web app is not built: run npm ci && npm run build in apps/web")
        run("npm", "run", "build", cwd=WEB)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from what git holds, so that a file nobody added is missed here and not by a user."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("wheel")
    code = f"import build_wheel, pathlib; print(build_wheel.build_wheel(pathlib.Path({str(folder)!r})))"
    return Path(run(sys.executable, "-c", code, cwd=ROOT / "tools").splitlines()[-1])


@pytest.mark.slow
def test_the_wheel_holds_every_file_that_git_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = run("git", "ls-files", cwd=ROOT).splitlines()
    below = {name: name for name in tracked if name.startswith("edgevl/")}
    below |= {f"edgevl/{name}": name for name in tracked if name.startswith(("training/", "quantize/", "export/"))}
    below |= {
        f"edgevl/{name}": name
        for name in tracked
        if name.startswith("apps/jetson/") and name.endswith((".py", ".json"))
    }
    below |= {
        name.replace("apps/jetson/", "edgevl/"): name for name in tracked if name.startswith("apps/jetson/pictures/")
    }
    below |= {f"edgevl/{name}": name for name in tracked if name.startswith("apps/android/")}
    below.pop("edgevl/apps/android/.gitignore", None)
    below.pop("edgevl/apps/android/.editorconfig", None)
    links = {"edgevl/training", "edgevl/quantize", "edgevl/export", "edgevl/apps", "edgevl/pictures"}
    missing = sorted(set(below) - packed - links)
    assert not missing
    assert not [name for name in packed if name.startswith(("training/", "quantize/", "export/", "apps/", "tests/"))]


@pytest.mark.slow
def test_the_wheel_works_from_another_folder(wheel, tmp_path):
    target = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import edgevl, edgevl.export.registry, edgevl.training.recipe as recipe\n"
        "from edgevl.models.checkpoint import load_model\n"
        "from edgevl.data import open_dataset\n"
        "load_model(None); open_dataset('scenes:test')[0].questions[0]\n"
        "assert list(recipe.RECIPES.glob('*.yaml'))\n"
        "import edgevl.bench.remote as remote; assert (remote.SCRIPT / 'benchmark.py').is_file()\n"
        "print(edgevl.__file__)"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip().startswith(str(target))


@pytest.mark.slow
def test_the_wheel_shows_the_web_app_without_node(site, wheel, onnx_bundle, tmp_path):
    """With nothing on the PATH: the folder is whole, and Chromium gets an answer from it."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith(SITE)}
    assert packed == {SITE + path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    with _served(wheel, onnx_bundle, tmp_path) as address:
        with urllib.request.urlopen(address + "edgevl/ort/ort-wasm-simd-threaded.wasm") as answer:
            assert answer.headers["Content-Type"] == "application/wasm" and len(answer.read()) > 10e6
        with urllib.request.urlopen(address + "edgevl/NOTICES.txt") as answer:
            assert b"Copyright (c) Microsoft" in answer.read()
        if not (WEB / "node_modules").is_dir() or not shutil.which("chromium"):
            pytest.skip("the folder was served; Chromium or npm ci in apps/web is missing to look at it")
        assert run("node", "test/served.mjs", address, cwd=WEB).strip()


@contextlib.contextmanager
def _served(wheel: Path, bundle: Path, folder: Path) -> Iterator[str]:
    target = folder / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel)
    command = [sys.executable, "-m", "edgevl", "app", "web", "--bundle", bundle, "--out", folder / "app", "--serve"]
    environment = {**os.environ, "PATH": str(folder), "PYTHONPATH": str(target)}
    server = subprocess.Popen([*map(str, command), "--port", "0", "--json"], env=environment, cwd=folder,
                              stdout=subprocess.PIPE, text=True, encoding="utf-8")  # fmt: skip
    try:
        assert server.stdout
        line = next(line for line in server.stdout if '"address"' in line)
        yield line.split('"')[3]
    finally:
        server.terminate()
        server.communicate(timeout=30)
