"""Draw docs/images/architecture.svg from the code: the contracts, and what is registered for each.

    python tools/architecture.py            # writes the picture
    python tools/architecture.py --check    # fails if it is not that of the code; a test does so

Names come from the registries, sentences from docstrings of `edgevl/contracts.py`. It reads on light and dark.
"""

import argparse
import ast
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
CONTRACTS = ROOT / "edgevl" / "contracts.py"
LINE, CHARACTER, MARGIN = 17, 6.1, 12  # pixels: height of a line, width of a character, inside a box
STYLE = """
svg { --ground: #ffffff; --box: #f3f5f8; --waist: #e3edff; --edge: #8a94a3; --text: #1b1f24; --soft: #57606a; }
@media (prefers-color-scheme: dark) {
 svg { --ground: #0d1117; --box: #1a2029; --waist: #16305a; --edge: #6e7986; --text: #e6edf3; --soft: #9aa4af; }
}
.ground { fill: var(--ground); } .box { fill: var(--box); stroke: var(--edge); } .waist { fill: var(--waist); }
.arrow { stroke: var(--edge); stroke-width: 1.6; fill: none; } .head { fill: var(--edge); }
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--text); }
.title { font-weight: 600; font-size: 14px; } .soft { fill: var(--soft); } .path { font: 11px ui-monospace, monospace; }
""".strip()


@dataclass(frozen=True)
class Box:
    x: int
    y: int
    width: int
    height: int
    title: str
    path: str  # where to look
    lines: Sequence[str]  # each is broken where it is too long
    waist: bool = False

    def draw(self) -> str:
        found = [
            f'<rect class="box{" waist" if self.waist else ""}" x="{self.x}" y="{self.y}" width="{self.width}" '
            f'height="{self.height}" rx="8"/>',
            self._text(0, self.title, "title"),
            self._text(1, self.path, "path soft"),
        ]
        wide = int((self.width - 2 * MARGIN) / CHARACTER)
        broken = [part for line in self.lines for part in textwrap.wrap(line, wide)]
        assert LINE * (len(broken) + 2) + MARGIN <= self.height, f"{self.title} needs {len(broken) + 2} lines"
        return "\n".join(found + [self._text(number + 2, part, "") for number, part in enumerate(broken)])

    def _text(self, line: int, text: str, kind: str) -> str:
        place = f'x="{self.x + MARGIN}" y="{self.y + 20 + LINE * line}"'
        return f"<text {place}{f' class={kind!r}' if kind else ''}>{escape(text)}</text>".replace("'", '"')


def contract(name: str) -> str:
    """Return the first sentence of a contract's docstring."""
    tree = ast.parse(CONTRACTS.read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    return (ast.get_docstring(found) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".") + "."


def members(name: str) -> str:
    """Return what a contract asks for."""
    tree = ast.parse(CONTRACTS.read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    return names(node.name for node in found.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_")


def names(known: Iterable[str]) -> str:
    return ", ".join(known)


def boxes() -> list[Box]:
    """Return what is drawn: three columns, left to right as data flows, with the waist in the middle."""
    from edgevl import decodings, tasks
    from edgevl.data import DATASETS
    from edgevl.export.registry import get_exporter
    from edgevl.models import families
    from edgevl.plans.spec import DIALECTS
    from edgevl.targets import OURS
    from edgevl.training.losses import LOSSES

    targets = [f"{each.name}: {get_exporter(each.name).artifact}" for each in OURS]
    precisions = sorted({word for each in OURS for word in get_exporter(each.name).precisions})
    left, middle, right = 20, 330, 700
    return [
        Box(left, 60, 270, 105, "Data", "edgevl/data/",
            [names(DATASETS._items), "and folders of `edgevl data import`"]),
        Box(left, 195, 270, 140, "Training", "training/ and its recipes/*.yaml",
            ["pretrain, finetune, distill, QAT", f"losses: {names(sorted(LOSSES._items))}"]),
        Box(left, 365, 270, 125, "Models", "edgevl/models/",
            ["ours: VQA, statements, dual encoder",
             f"foreign, models/families/: {names(families._MODULES)}",
             "pictures and words to tensors: edgevl/inputs/"]),
        *[
            Box(middle, y, 330, 100, name, f"edgevl/contracts.py, {path}", [contract(name), known], waist=True)
            for y, name, path, known in (
                (60, "Dataset", "edgevl/data/", members("Dataset")),
                (170, "Task", "edgevl/tasks/", names(tasks._MODULES)),
                (280, "Decoding", "edgevl/decodings/", names(decodings._MODULES)),
                (390, "Deployable", "edgevl/models/", members("Deployable")),
            )
        ],
        Box(right, 60, 280, 105, "Quantize", "quantize/",
            ["calibrate once, for every target", f"dialects: {names(DIALECTS)}"]),
        Box(right, 195, 280, 195, "Export", "export/to_*.py, edgevl/targets.py",
            [*targets, f"precisions: {names(precisions)}"]),
        Box(right, 420, 280, 70, "Bundle", "edgevl/bundle/, docs/bundle.md",
            ["manifest.json, artifacts, golden.json"]),
        Box(left, 530, 960, 60, "Run and judge: verify, predict, search, bench, compare, report, apps/",
            "edgevl/runtime/ runs a file, edgevl/formats/ reads one, edgevl/verify/ proves it; apps read bundles",
            []),
    ]  # fmt: skip


ARROWS = ("M155 165 V195", "M155 335 V365", "M290 430 H330", "M290 110 H330", "M660 430 C682 430 676 112 699 112")
ARROWS += ("M840 165 V195", "M840 390 V420", "M840 490 V530", "M495 490 V530")


def draw() -> str:
    """Return the text of the SVG."""
    label = "Data, training and models come in; four contracts are the waist; quantization, targets and bundle leave"
    head = '<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 610" role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f'<defs>{head}<path class="head" d="M0 0 L6 3 L0 6 z"/></marker></defs>',
        '<rect class="ground" width="1000" height="610"/>',
        '<text x="20" y="36" class="title">What comes in</text>',
        '<text x="330" y="36" class="title">The waist: four contracts</text>',
        '<text x="700" y="36" class="title">What leaves</text>',
        *(f'<path class="arrow" d="{path}" marker-end="url(#head)"/>' for path in ARROWS),
        *(box.draw() for box in boxes()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the picture is an old one")
    args = parser.parse_args(argv)
    text = draw()
    if args.check:
        return int(not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != text)
    PICTURE.write_text(text, encoding="utf-8", newline="\n")
    print(PICTURE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
