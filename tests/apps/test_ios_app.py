"""`edgevl app ios`: the Swift package, the app and a checked bundle in one folder, for Xcode."""

import json

import pytest

from edgevl.app.ios import RESOURCES, write_ios_project
from edgevl.bundle.folder import Bundle
from edgevl.cli import main
from edgevl.errors import InputError, VerificationFailed

pytest.importorskip("coremltools")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    from tiny_models import write_tiny_model

    from edgevl.bundle_export import export_bundle

    folder = tmp_path_factory.mktemp("ios")
    return export_bundle(write_tiny_model(folder / "tiny"), "coreml", out=folder / "tiny.edgevl", layout="split")


def test_a_project_holds_the_library_the_app_and_the_bundle(bundle, tmp_path):
    project = write_ios_project(tmp_path / "project", bundle)
    assert Bundle.open(project / RESOURCES).require_intact() is None
    package = (project / "Package.swift").read_text(encoding="utf-8")
    assert "EdgeVLOnnx" not in package and "#if" not in package and 'name: "EdgeVLPacked"' in package
    assert not (project / "Tests").exists() and not (project / "Sources/EdgeVLOnnx").exists()
    resources = project / "Sources/EdgeVLPacked/Resources"
    assert {path.name for path in resources.iterdir()} == {
        "bundle.schema.json",
        "bundle-1.schema.json",
        "code-points.txt",
    }
    assert not any(path.is_symlink() for path in project.rglob("*"))
    sample = (project / "Sample.swiftpm/Package.swift").read_text(encoding="utf-8")
    assert 'path: ".."' in sample and f'.copy("{RESOURCES.name}")' in sample
    assert str(RESOURCES) in (project / "README.md").read_text(encoding="utf-8")


def test_what_ios_cannot_use_is_refused(bundles, bundle, tmp_path):
    with pytest.raises(InputError, match="a bundle for onnx does not run in this app: export with --target coreml"):
        write_ios_project(tmp_path / "project", bundles["onnx"])
    with pytest.raises(InputError, match="nothing"):
        write_ios_project(tmp_path / "project", tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    with pytest.raises(InputError, match="mine"):
        write_ios_project(tmp_path / "mine", bundle, force=True)
    assert not (tmp_path / "project").exists() and (tmp_path / "mine/letter.txt").exists()


def test_a_damaged_bundle_is_refused(bundle, tmp_path):
    import shutil

    copy = shutil.copytree(bundle, tmp_path / "copy.edgevl")
    (copy / "labels.json").write_text("[]", encoding="utf-8")
    with pytest.raises(VerificationFailed, match="labels"):
        write_ios_project(tmp_path / "project", copy)
    assert not (tmp_path / "project").exists()


def test_the_command_says_what_it_wrote_and_force_replaces_it(bundle, tmp_path, capsys):
    out = tmp_path / "project"
    assert main(["app", "ios", "--bundle", str(bundle), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(out)}
    assert main(["app", "ios", "--bundle", str(bundle), "--out", str(out)]) == 2
    assert "project" in capsys.readouterr().err
    assert main(["app", "ios", "--bundle", str(bundle), "--out", str(out), "--force"]) == 0
    assert "Sample.swiftpm in Xcode" in capsys.readouterr().out
