"""EdgeVL: detector-free vision-language models from raw pixels to a phone, proved on the artifact itself.

The package is cheap to import: nothing heavy is loaded until a function needs it.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime's official builds report to their maker, on Linux and macOS too (their Privacy.md). We have nothing to
# report to anyone. Only this variable, set before the first import, stops all of it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
