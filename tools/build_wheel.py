"""Build the wheel of a release, with the web app inside: `python tools/build_wheel.py [--out dist]`. Needs Node 20.

The app is built first (`npm ci && npm run build` in apps/web), so that nobody who installs the wheel needs Node.
The wheel is then made of a copy of the files that git knows: what earlier builds left in `build/` would be packed, too.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgevl.app.web import build_site
from edgevl.errors import EdgeVLError

ROOT = Path(__file__).parents[1]
SITE = "edgevl/app/site"


def build_wheel(out: Path) -> Path:
    """Build a wheel of what git knows and of the web app, if that is built. Return its path."""
    with tempfile.TemporaryDirectory(prefix="edgevl-wheel-") as place:
        copy = Path(place) / "copy"
        _copy_tracked(copy)
        if (ROOT / SITE).is_dir():
            shutil.copytree(ROOT / SITE, copy / SITE)
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(Path(place) / "dist"), str(copy)]
        subprocess.run(command, check=True)
        [made] = (Path(place) / "dist").glob("edgevl-*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(made, out / made.name))


def _copy_tracked(target: Path) -> None:
    """Copy the files that git knows, as they are now; links stay links."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    for name in filter(None, listed.stdout.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def packed_bytes(wheel: Path, folder: str = "") -> int:
    """Return the compressed bytes of the files of a wheel below a folder."""
    with zipfile.ZipFile(wheel) as archive:
        return sum(entry.compress_size for entry in archive.infolist() if entry.filename.startswith(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    try:
        build_site()
    except EdgeVLError as error:
        sys.exit(f"error: {error}")
    wheel = build_wheel(options.out)
    app = packed_bytes(wheel, SITE)
    if not app:
        sys.exit(f"error: {wheel} holds no web app")
    print(f"wrote {wheel}: {packed_bytes(wheel) / 1e6:.1f} MB, of which the web app {app / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
