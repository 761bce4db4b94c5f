"""EdgeVL: detector-free vision-language models from raw pixels to a phone, proved on the artifact itself.

The package is cheap to import: nothing heavy is loaded until a function needs it.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.32 looks up its maker's telemetry host on Linux too, unless this is set before its first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
