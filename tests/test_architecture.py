"""The shape of the code: which way imports go, what is imported lazily, and what no file may be called."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = ("training", "quantize", "export")
# A backend or a heavy library that only some commands need: imported inside the function that needs it.
LAZY = {
    "ai_edge_litert", "ai_edge_quantizer", "coreai", "coreai_torch", "coremltools", "executorch", "flatbuffers",
    "litert_torch", "matplotlib", "onnx", "onnxruntime", "onnxscript", "pillow_heif", "skimage", "tensorboard",
    "tensorrt", "tensorrt_rtx", "torch_tensorrt", "torchao",
}  # fmt: skip
# Modules that are written on torchao's classes. They are imported inside functions, behind `require_torchao`.
ON_TORCHAO = {
    "edgevl.plans.bias",
    "edgevl.quantize.calibrate",
    "edgevl.quantize.module_errors",
    "edgevl.quantize.observers",
    "edgevl.plans.ptq",
    "edgevl.quantize.qat",
    "edgevl.plans.quantizer",
    "edgevl.plans.rounding",
    "edgevl.quantize.sensitivity",
    "edgevl.training.qat",
}
# A folder that can be copied and used under another name: its modules name each other relatively, one file names us.
ALONE, SEAM = "edgevl/runtime/coreml_reference", "seam.py"
# Layers, lowest first. A file may import its own layer and those below.
LAYERS = ("core", "tools", "cli")
# What orchestrates stands with the command line, wherever its file lies. The benchmark is there because it exports what
# it times (a model folder, the region-feature baseline), the report because it shows benchmarks.
TOP_MODULES = {"edgevl.__main__", "edgevl.bench", "edgevl.cli", "edgevl.demo", "edgevl.doctor", "edgevl.report"}
TOP_MODULES |= {"edgevl.app", "edgevl.regions.pipeline"}  # one exports bundles, the other is timed
TOP_MODULES |= {"edgevl.bundle_export"}  # its int8 needs a calibration
TOP_MODULES |= {"edgevl.training.study"}  # it evaluates, benchmarks and writes a page


def python_files(folder: str) -> list[Path]:
    """Every Python file below a folder of the repository, each once: links are not followed."""
    found = []
    for directory, folders, names in os.walk(ROOT / folder, followlinks=False):
        folders[:] = [name for name in folders if name not in ("__pycache__", "node_modules")]
        found += [Path(directory, name) for name in names if name.endswith(".py")]
    return sorted(found)


def package_files() -> list[Path]:
    return [path for folder in ("edgevl", *LINKS) for path in python_files(folder)]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "edgevl" else ("edgevl", *parts))


def layer_of(module: str) -> str:
    if any(module == top or module.startswith(top + ".") for top in TOP_MODULES):
        return "cli"
    parts = module.split(".")
    return "tools" if len(parts) > 1 and parts[1] in LINKS else "core"


def imports(tree: ast.AST, top_only: bool = False) -> Iterator[str]:
    """Names imported. top_only: those that run when the module is imported (not in functions or TYPE_CHECKING)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif top_only and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or type_only(node)):
            continue
        else:
            yield from imports(node, top_only)


def type_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_imports_go_from_the_command_line_down_to_the_core():
    wrong = []
    for path in package_files():
        module = module_name(path)
        if module == "edgevl" or layer_of(module) == "cli":  # edgevl itself imports for type checkers only
            continue
        for name in imports(parsed(path)):
            if name.startswith("edgevl.") and LAYERS.index(layer_of(name)) > LAYERS.index(layer_of(module)):
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_tools_do_not_lean_on_each_other():
    """Quantization and export share what lies below both; training may quantize, nothing else."""
    wrong = []
    for path in package_files():
        module = module_name(path)
        if layer_of(module) != "tools":
            continue
        own = module.split(".")[1]
        allowed = {own, "quantize"} if own == "training" else {own}
        others = {f"edgevl.{name}" for name in LINKS if name not in allowed}
        wrong += [f"{module} imports {name}" for name in imports(parsed(path)) if name.startswith(tuple(others))]
    assert not wrong, "\n".join(wrong)


def test_optional_backends_are_imported_inside_functions():
    wrong = [
        f"{module_name(path)} imports {name} at its top"
        for path in package_files()
        for name in imports(parsed(path), top_only=True)
        if (name.split(".")[0] in LAZY and not (name.startswith("torchao.") and module_name(path) in ON_TORCHAO))
        or name.startswith("torchvision.models.detection")
        or (name.rpartition(".")[0] in ON_TORCHAO and module_name(path) not in ON_TORCHAO)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_folder_that_stands_alone_takes_from_the_rest_through_one_file():
    wrong = []
    for path in python_files(ALONE):
        levels = {node.level for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom)}
        names = [name for name in imports(parsed(path)) if name.split(".")[0] == "edgevl"]
        if not levels <= {0, 1} or (names and path.name != SEAM):
            wrong.append(f"{path.relative_to(ROOT)} imports {names[:1] or 'from above'}")
    assert not wrong, "\n".join(wrong)


def test_no_bare_name_is_imported():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("edgevl", *LINKS, "tests", "tools")
        for path in python_files(folder)
        for name in imports(parsed(path))
        if name.split(".")[0] in LINKS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("line", ["import training", "from export.registry import EXPORTERS", "import quantize.spec"])
def test_lint_catches_a_bare_import(tmp_path, line):
    pytest.importorskip("ruff", reason='ruff comes with pip install "edgevl[dev]"')
    (tmp_path / "wrong.py").write_text(f"{line}\n", encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert answer.returncode == 1 and "TID251" in answer.stdout, answer.stdout


@pytest.mark.parametrize(
    "name,folder", [*((name, name) for name in (*LINKS, "apps")), ("pictures", "apps/jetson/pictures")]
)
def test_links_are_relative_and_resolve(name, folder):
    link = ROOT / "edgevl" / name
    if not link.is_symlink():
        pytest.skip("not a checkout with links (a wheel or an sdist holds real files)")
    assert link.is_dir(), f"{link} leads nowhere"
    assert os.readlink(link) == f"../{folder}"
    assert link.resolve() == (ROOT / folder).resolve()


def test_relative_imports_only_where_a_folder_has_two_names():
    """apps/jetson/pictures is `pictures` on a board and `edgevl.pictures` here; the other folder may be copied away."""
    files = [*package_files(), *(path for folder in ("apps", "tests", "tools") for path in python_files(folder))]
    relative = {path.parent for path in files if any(name.startswith(".") for name in imports(parsed(path)))}
    assert relative == {ROOT / "apps/jetson/pictures", ROOT / ALONE}
    inside = {path.stem for path in python_files("apps/jetson/pictures")}
    used = {name for path in python_files("apps/jetson/pictures") for name in imports(parsed(path)) if name[0] == "."}
    assert {name.split(".")[1] or name.split(".")[2] for name in used} <= inside


def test_no_file_shadows_a_library():
    libraries = {name for name in sys.stdlib_module_names if not name.startswith("_")} | LAZY
    libraries |= {"numpy", "PIL", "rich", "timm", "tokenizers", "torch", "torchvision", "typer", "yaml"}
    allowed = {"inspect", "cli", "data"}
    wrong = [
        str(path.relative_to(ROOT))
        for path in package_files()
        if path.stem in libraries - allowed and path.stem != "__init__"
    ]
    assert not wrong, "\n".join(wrong)


def test_tests_are_no_package_and_have_unique_names():
    files = python_files("tests")
    assert not [path for path in files if path.name == "__init__.py"]
    names = [path.name for path in files if path.name != "conftest.py"]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_apps_import_nothing_of_edgevl():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files("apps")
        for name in imports(parsed(path))
        if name.split(".")[0] in {"edgevl", "torch", *LINKS}
    ]
    assert not wrong, "\n".join(wrong)


def test_files_stay_small():
    files = [*package_files(), *python_files("apps"), *(ROOT / "apps" / "android").glob("*/src/**/*.kt")]
    files += (ROOT / "apps" / "ios").rglob("*.swift")
    long = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert not {name: lines for name, lines in long.items() if lines > 400}


def test_importing_the_package_and_the_command_line_loads_nothing_heavy():
    heavy = sorted({"torch", "numpy", "timm", "torchvision"} | LAZY)
    code = f"import sys, edgevl, edgevl.cli; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert answer.stdout.strip() == "[]"
