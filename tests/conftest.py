"""Shared by all tests: few threads, no colors, nothing written into the repository."""

import os

# Before torch is imported: two test workers with a pool of threads each are slower than one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_COLOR"] = "1"
os.environ["TERM"] = "dumb"
os.environ.setdefault("MPLBACKEND", "Agg")
