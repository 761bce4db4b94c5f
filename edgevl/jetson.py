"""What a Jetson says of itself: board, L4T release, JetPack, TensorRT, and what follows for a bundle."""

import contextlib
import re
from pathlib import Path

from pydantic import BaseModel

# Major release of Jetson Linux (L4T) -> JetPack that it belongs to.
_JETPACK = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
_TYPED = 10  # first TensorRT that takes strongly typed networks, which is what EdgeVL writes


class Jetson(BaseModel):
    board: str
    l4t: str | None  # "36.4.3"
    jetpack: str | None  # major version
    tensorrt: str | None  # "10.3.0", from the headers of the system's own installation
    advice: str  # what follows: one sentence with the next command


def find_jetson(root: Path = Path("/")) -> Jetson | None:
    """Describe the Jetson that this machine is; None on any other. `root`: where its file system lies, for tests."""
    l4t = _l4t(_read(root / "etc/nv_tegra_release"))
    board = _read(root / "proc/device-tree/model").strip("\0\n ")
    if l4t is None and "jetson" not in board.lower():
        return None
    tensorrt = _tensorrt(root)
    return Jetson(
        board=board or "a Jetson",
        l4t=l4t,
        jetpack=_JETPACK.get((l4t or "").split(".")[0]),
        tensorrt=tensorrt,
        advice=_advice(tensorrt),
    )


def _l4t(text: str) -> str | None:
    """ "# R36 (release), REVISION: 4.3, GCID: ..." -> "36.4.3"."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else None


def _tensorrt(root: Path) -> str | None:
    for folder in ("usr/include/aarch64-linux-gnu", "usr/include"):
        text = _read(root / folder / "NvInferVersion.h")
        numbers = [re.search(rf"#define (?:NV_|TRT_){part}\w* (\d+)", text) for part in _version_macros(text)]
        if numbers and all(numbers):
            return ".".join(number[1] for number in numbers if number)
    return None


def _version_macros(text: str) -> tuple[str, ...]:
    """TensorRT 10 and before write NV_TENSORRT_MAJOR; later headers refer to TRT_MAJOR_ENTERPRISE."""
    if re.search(r"#define TRT_MAJOR_ENTERPRISE \d", text):
        return ("MAJOR_ENTERPRISE", "MINOR_ENTERPRISE", "PATCH_ENTERPRISE")
    return ("TENSORRT_MAJOR", "TENSORRT_MINOR", "TENSORRT_PATCH") if "NV_TENSORRT_MAJOR" in text else ()


def _advice(tensorrt: str | None) -> str:
    if tensorrt is None:
        return "TensorRT's headers are not here: sudo apt-get install nvidia-jetpack"
    if int(tensorrt.split(".")[0]) < _TYPED:
        return f"TensorRT {tensorrt} is older than 10: flash a JetPack that has 10 or later, or use the onnx target"
    return "export with --target tensorrt, then on this board: python3 BUNDLE/build_engine.py"


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
