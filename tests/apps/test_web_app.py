"""`edgevl app web`: a folder with one runtime and one checked bundle, and a server with the headers of threads."""

import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevl.app import web
from edgevl.errors import EdgeVLError, InputError, MissingProgram, VerificationFailed


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A built site as `npm run build` leaves it, in small: what is copied does not depend on what the files hold."""
    names = ["index.html", "sw.js", "shell.json", "assets/app.js", "edgevl/worker-onnx.js", "edgevl/worker-litert.js",
             "edgevl/ort/ort.wasm", "edgevl/litert/litert.wasm"]  # fmt: skip
    for name in names:
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} EDGEVL_VERSION", encoding="utf-8")
    monkeypatch.setattr(web, "SITE", tmp_path / "site")
    return tmp_path / "site"


def names(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("bundles/")}


def version(folder: Path) -> str:
    return (folder / "sw.js").read_text(encoding="utf-8").split()[-1]


def test_the_folder_holds_the_bundle_and_the_runtime_of_its_target(site, bundles, tmp_path):
    app = web.write_web_app(tmp_path / "app", bundles["onnx"])
    assert names(app) == {"index.html", "sw.js", "shell.json", "app.json", "assets/app.js", "edgevl/worker-onnx.js",
                          "edgevl/ort/ort.wasm"}  # fmt: skip
    place = json.loads((app / "app.json").read_text(encoding="utf-8"))["bundle"]
    assert place == "bundles/onnx.edgevl/" and (app / place / "manifest.json").is_file()


def test_another_bundle_is_another_version(site, bundles, tmp_path):
    """The service worker's cache is named by it: old and new files are never mixed."""
    first, again, other = (
        web.write_web_app(tmp_path / name, bundles[bundle])
        for name, bundle in (("a", "onnx"), ("b", "onnx"), ("c", "split"))
    )
    assert len(version(first)) == 16 and version(first) == version(again) != version(other)


def test_what_cannot_be_served_is_refused(site, bundles, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="tensorrt does not run in a browser: export with --target litert"):
        web.write_web_app(tmp_path / "app", bundles["tensorrt"])
    with pytest.raises(InputError, match="nothing"):
        web.write_web_app(tmp_path / "app", tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not a web app"):
        web.write_web_app(tmp_path / "mine", bundles["onnx"], force=True)
    monkeypatch.setattr(web, "SITE", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"add --build \(it needs Node 20\), .* wheel that tools/build_wheel\.py"):
        web.write_web_app(tmp_path / "app", bundles["onnx"])
    assert not (tmp_path / "app").exists()


def test_what_cannot_be_built_says_why(tmp_path, monkeypatch):
    """Not a checkout, no npm, or an npm that fails: here by a package.json that is none."""
    monkeypatch.setattr(web, "SOURCE", tmp_path)
    with pytest.raises(InputError, match="only a checkout builds"):
        web.build_site()
    (tmp_path / "package.json").write_text("{", encoding="utf-8")
    with monkeypatch.context() as bare:
        bare.setenv("PATH", str(tmp_path))
        with pytest.raises(MissingProgram, match="npm: install Node 20"):
            web.build_site()
    if shutil.which("npm"):
        with pytest.raises(EdgeVLError, match="npm ci failed"):
            web.build_site()


def test_a_damaged_bundle_is_not_put_into_an_app(site, bundles, tmp_path):
    copy = Path(shutil.copytree(bundles["onnx"], tmp_path / "copy.edgevl"))
    (copy / "labels.json").write_text("[]", encoding="utf-8")
    with pytest.raises(VerificationFailed, match=r"labels\.json"):
        web.write_web_app(tmp_path / "app", copy)
    assert not (tmp_path / "app").exists()


@pytest.fixture
def address(site) -> Iterator[str]:
    server = web.server_of(site, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_server_isolates_the_page(address):
    """Without both headers no browser shares memory between threads; WASM of another type is compiled late."""
    with urllib.request.urlopen(address) as answer:
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    with urllib.request.urlopen(address + "edgevl/ort/ort.wasm") as answer:
        assert answer.headers["Content-Type"] == "application/wasm"


def test_a_port_that_is_taken_is_named(site):
    server = web.server_of(site, 0)
    try:
        with pytest.raises(InputError, match=f"port {server.server_port} cannot be used.*--port"):
            web.server_of(site, server.server_port)
    finally:
        server.server_close()
