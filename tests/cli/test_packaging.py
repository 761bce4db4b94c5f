"""A wheel built from a clone holds the linked folders and the data as real files, and works from anywhere."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: object, **options) -> str:
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options, encoding="utf-8")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from what git holds, so that a file nobody added is missed here and not by a user."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("wheel")
    run("git", "clone", "-q", "--no-hardlinks", ROOT, folder / "clone")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, folder / "clone")
    return next(folder.glob("edgevl-*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_file_that_git_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = run("git", "ls-files", cwd=wheel.parent / "clone").splitlines()
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
