"""`edgevl app web`: the built web app with a bundle in place, and a server with the headers that threads need."""

import functools
import hashlib
import http.server
import json
import shutil
import subprocess
from pathlib import Path

from edgevl.atomic import Kind, atomic_folder, check_destination
from edgevl.bundle.folder import Bundle
from edgevl.errors import EdgeVLError, InputError, MissingProgram
from edgevl.progress import Progress

SITE = Path(__file__).with_name("site")  # what `npm run build` of apps/web writes; a wheel holds it
SOURCE = Path(__file__).parents[2] / "apps" / "web"  # of a checkout
APP = Kind("web app", "app.json", "FOLDER/app")
RUNTIMES = {"onnx": "ort", "litert": "litert"}  # target -> folder of its WASM
MARK = "EDGEVL_VERSION"  # in the service worker
# Threads share memory only in a page that is isolated from others.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm",
         ".webmanifest": "application/manifest+json", ".json": "application/json", ".svg": "image/svg+xml"}  # fmt: skip


def build_site(progress: Progress | None = None) -> None:
    """Build the web app of a checkout: `npm ci && npm run build` in apps/web. It asks the npm registry for packages.

    Raises:
        InputError: this is no checkout.
        MissingProgram: npm is not there.
        EdgeVLError: npm failed; the message holds its last line.
    """
    if not (SOURCE / "package.json").is_file():
        raise InputError("only a checkout builds the web app: leave --build out, a wheel of a release holds it")
    npm = shutil.which("npm")
    if npm is None:
        raise MissingProgram("building the web app needs npm: install Node 20")
    for step, words in enumerate((["ci"], ["run", "build"])):
        if progress:
            progress(step, 2, f"npm {' '.join(words)}")
        command = [npm, *words, "--no-audit", "--no-fund", "--no-update-notifier"]
        run = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, encoding="utf-8", errors="replace")
        if run.returncode:
            last = [line for line in run.stderr.splitlines() if line.strip()][-1:] or ["without a word"]
            raise EdgeVLError(f"npm {' '.join(words)} failed in {SOURCE}: {last[0]:.200}")


def write_web_app(
    out: str | Path, bundle: str | Path | None = None, force: bool = False, progress: Progress | None = None
) -> Path:
    """Write a folder that any web server can serve: the app, the runtime of the bundle's target, and the bundle.

    Args:
        out: the folder, which is not there yet.
        bundle: for onnx or litert; None exports the embedded model for onnx.
        force: replace a web app that is there.
        progress: called as progress(done, total, text).

    Raises:
        InputError: the folder is there or cannot be written, the bundle is for another target, or this is a checkout
            or a wheel without the built web app.
        VerificationFailed: the bundle is damaged.
    """
    check_destination(Path(out), force, APP)
    if not (SITE / "index.html").is_file():
        raise InputError(
            "the built web app is missing here: in a checkout add --build (it needs Node 20), "
            "otherwise install a wheel that tools/build_wheel.py made, which holds it"
        )
    with atomic_folder(Path(out), force, APP) as folder:
        place = _place_bundle(folder, bundle, progress)
        _copy_site(folder, Bundle.open(place).manifest.target)
        (folder / "app.json").write_text(json.dumps({"bundle": f"bundles/{place.name}/"}) + "\n", encoding="utf-8")
        _stamp(folder)
    return Path(out)


def _place_bundle(folder: Path, bundle: str | Path | None, progress: Progress | None) -> Path:
    if bundle is None:
        from edgevl.bundle_export import export_bundle

        return export_bundle(None, "onnx", out=folder / "bundles" / "nano-onnx-fp32.edgevl", progress=progress)
    opened = Bundle.open(bundle)
    if opened.manifest.target not in RUNTIMES:
        raise InputError(
            f"a bundle for {opened.manifest.target} does not run in a browser: "
            "export with --target litert or --target onnx"
        )
    opened.require_intact()
    return Path(shutil.copytree(opened.path, folder / "bundles" / opened.path.name))


def _copy_site(folder: Path, target: str) -> None:
    """Copy the app with the worker and the WASM of one runtime."""
    others = {name for other, name in RUNTIMES.items() if other != target}
    others |= {f"worker-{other}.js" for other in RUNTIMES if other != target}
    shutil.copytree(SITE, folder, dirs_exist_ok=True, ignore=lambda _, names: others.intersection(names))


def _stamp(folder: Path) -> None:
    """Put a digest of all files into the service worker: another app or bundle is another cache."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    worker = folder / "sw.js"
    text = worker.read_text(encoding="utf-8").replace(MARK, digest.hexdigest()[:16])
    worker.write_text(text, encoding="utf-8", newline="\n")


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, **TYPES}

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


def server_of(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of a folder, for this machine only. Raises `InputError` if the port is taken."""
    handler = functools.partial(_Handler, directory=str(folder))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise InputError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from None
