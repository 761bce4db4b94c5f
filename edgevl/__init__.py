"""EdgeVL: detector-free vision-language models from raw pixels to a phone, proved on the artifact itself.

The package is cheap to import: nothing heavy is loaded until a function needs it.
"""

__version__ = "0.1.0"
