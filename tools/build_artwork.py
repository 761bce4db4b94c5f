"""Rebuild the packed artwork of Scenes from the two npm packages it comes from.

    python tools/build_artwork.py                      # fetches both packages with `npm pack`
    python tools/build_artwork.py --packages FOLDER    # FOLDER holds the two .tgz files already

Writes one RGBA PNG atlas per family and their licenses into edgevl/data/scenes/artwork. Same packages, same pixels.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

from edgevl.data.scenes.names import CATEGORIES, CODE_POINT_OF

PACKAGES = {"fluent": ("@lobehub/fluent-emoji-3d", "1.1.0"), "noto": ("emoji-datasource-google", "16.0.0")}
PATTERNS = {"fluent": "package/assets/{}.webp", "noto": "package/img/google/64/{}.png"}
CELL = {"fluent": 96, "noto": 64}  # longest side in pixels; the biggest object at 128 px is 56
COLUMNS = 16
OUT = Path(__file__).resolve().parent.parent / "edgevl/data/scenes/artwork"

MIT = """The MIT License

{copyright}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def package_file(folder: Path, family: str) -> Path:
    """The .tgz of one family in `folder`; fetched there by `npm pack` when it is missing."""
    name, version = PACKAGES[family]
    path = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not path.exists():
        subprocess.run(["npm", "pack", f"{name}@{version}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return path


def read_sprites(path: Path, family: str) -> list[Image.Image]:
    """One RGBA image per category, cropped to its alpha and at most CELL pixels on its longest side."""
    with tarfile.open(path) as tar:
        files = {member.name: member for member in tar.getmembers()}
        return [fit(open_member(tar, files, family, CODE_POINT_OF[name]), CELL[family]) for name in CATEGORIES]


def open_member(tar: tarfile.TarFile, files: dict[str, tarfile.TarInfo], family: str, code: str) -> Image.Image:
    for spelling in (code, f"{code}-fe0f"):
        member = files.get(PATTERNS[family].format(spelling))
        data = tar.extractfile(member) if member else None
        if data:
            return Image.open(io.BytesIO(data.read())).convert("RGBA")
    sys.exit(f"{PACKAGES[family][0]} has no image for code point {code}")


def fit(image: Image.Image, cell: int) -> Image.Image:
    box = image.getchannel("A").point([255 if alpha >= 64 else 0 for alpha in range(256)]).getbbox()
    image = image.crop(box)
    longest = max(image.size)
    if longest <= cell:
        return image
    width, height = (max(1, (side * cell + longest // 2) // longest) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def write_atlas(sprites: list[Image.Image], cell: int, path: Path) -> None:
    """Each sprite lies at the top left of its cell; a category's place is its index in CATEGORIES."""
    rows = -(-len(sprites) // COLUMNS)
    atlas = Image.new("RGBA", (COLUMNS * cell, rows * cell))
    for i, sprite in enumerate(sprites):
        atlas.paste(sprite, (i % COLUMNS * cell, i // COLUMNS * cell))
    atlas.save(path, optimize=True)


def write_licenses() -> None:
    apache = next(p for p in (OUT.parents[3] / "LICENSE", Path("/usr/share/common-licenses/Apache-2.0")) if p.exists())
    (OUT / "LICENSE-fluent-MIT.txt").write_text(
        "Fluent Emoji, from npm @lobehub/fluent-emoji-3d 1.1.0.\n\n"
        + MIT.format(copyright="Copyright (c) Microsoft Corporation."),
        encoding="utf-8",
    )
    (OUT / "LICENSE-noto-Apache-2.0.txt").write_text(
        "Noto Color Emoji, Copyright Google LLC, from npm emoji-datasource-google 16.0.0.\n\n"
        + apache.read_text(encoding="utf-8"),
        encoding="utf-8",
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, help="folder with the two .tgz files (default: fetch with npm)")
    args = parser.parse_args(argv)
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for family, cell in CELL.items():
            source = package_file(args.packages or Path(scratch), family)
            write_atlas(read_sprites(source, family), cell, OUT / f"{family}.png")
    write_licenses()
    for path in sorted(OUT.iterdir()):
        print(f"{path.stat().st_size:>9} {path.name}")


if __name__ == "__main__":
    main()
