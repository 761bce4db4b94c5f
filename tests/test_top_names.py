"""What `import edgevl` offers: the names that most people need, loaded on first use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgevl

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", edgevl.__all__)
def test_every_name_is_there_and_documented(name):
    value = getattr(edgevl, name)
    assert callable(value) and value.__doc__
    assert f"`{name}" in (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_dir_shows_the_names_and_nothing_private():
    assert set(edgevl.__all__) <= set(dir(edgevl))
    assert not [name for name in dir(edgevl) if name not in edgevl.__all__ and not name.startswith("__")]


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(edgevl.__file__).read_text(encoding="utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    found = {alias.asname: f"{node.module}:{alias.name}" for node in imports for alias in node.names}
    homes = {name: f"edgevl.{home}" for name, home in edgevl._HOMES.items()} | {"predict": "edgevl.predict:predict"}
    stages = {"pretrain", "finetune", "distill"}
    public = {name: home for name, home in found.items() if name and not name.startswith("_")}
    assert public == {name: homes[name] for name in homes.keys() - stages}
    assert all(homes[stage] == f"edgevl.training.{stage}:run" for stage in stages)


def test_a_name_that_is_not_there_lists_those_that_are():
    with pytest.raises(AttributeError, match=r"no attribute 'export_bundel'; it has .*export_bundle"):
        edgevl.export_bundel  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from edgevl import nothing  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize(
    "code",
    [
        "from edgevl import predict; import edgevl.predict",
        "import edgevl.predict; from edgevl import predict",
        "from edgevl.predict import predict",
    ],
)
def test_predict_can_be_called_whatever_was_imported_before(code):
    script = f"import edgevl\n{code}\nassert edgevl.predict.Answerer is edgevl.Answerer\n"
    script += "try: edgevl.predict(None, 'nowhere.png', 'why?')\nexcept edgevl.InputError as error: print(error)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert 'no file "nowhere.png"' in answer.stdout, answer.stderr


def test_a_name_loads_only_its_own_module():
    script = "import sys, edgevl; dir(edgevl); edgevl.InputError; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8").stdout
        == "False False\n"
    )


def test_no_name_hides_a_module():
    modules = {path.stem for path in Path(edgevl.__file__).parent.iterdir()}
    assert set(edgevl.__all__) & modules == {"predict"}


def types_for_pyright() -> tuple[str, Path, bool]:
    """Not run: pyright reads it, and would complain if the names had no types."""
    bundle = edgevl.export_bundle(None, "onnx")
    return edgevl.predict(bundle, "sample", "why?").answer, bundle, edgevl.verify_bundle(bundle).ok
