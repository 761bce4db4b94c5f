"""Run an artifact: one `Session` for each target, all with the same inputs and outputs."""

from edgevl.runtime.session import Session, TensorSpec, open_session

__all__ = ["Session", "TensorSpec", "open_session"]
