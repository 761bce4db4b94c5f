"""For tests: the float reference of a model, artifacts run one after another, and a manifest of another claim."""

from collections.abc import Mapping

import numpy as np

from edgevl.bundle.manifest import Manifest
from edgevl.models.question_answering import answering_program
from edgevl.models.vqa import VqaModel
from edgevl.runtime.eager_session import EagerSession


def reference(model: VqaModel, threads: int | None = None) -> EagerSession:
    """Eager PyTorch of a question-answering model."""
    return EagerSession(answering_program(model), threads)


def claiming(manifest: Manifest, precision: str) -> Manifest:
    """Return a manifest that says that the bundle, and each of its programs, is of another precision."""
    programs = tuple(program.model_copy(update={"precision": precision}) for program in manifest.programs)
    return manifest.model_copy(update={"precision": precision, "programs": programs})


class Chain:
    """Sessions that are run in order, each with what it takes of the feeds and of what those before it gave."""

    def __init__(self, *sessions):
        self._sessions = sessions
        given = {spec.name for session in sessions for spec in session.outputs}
        self.inputs = tuple(spec for session in sessions for spec in session.inputs if spec.name not in given)
        self.outputs = sessions[-1].outputs
        self.runtime, self.thread_safe = sessions[0].runtime, all(session.thread_safe for session in sessions)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = dict(feeds)
        for session in self._sessions:
            values |= session.run({spec.name: values[spec.name] for spec in session.inputs})
        return {spec.name: values[spec.name] for spec in self.outputs}
