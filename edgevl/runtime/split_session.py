"""A model in two artifacts: encode a picture once, then ask about it as often as wanted."""

from collections.abc import Mapping

import numpy as np

from edgevl.errors import VerificationFailed
from edgevl.runtime.session import Arrays, Session, check_feeds

VISUAL = "visual"  # what goes from one artifact to the other


class SplitSession:
    """A vision session and a fusion session behind the interface of one.

    `encode` and `answer` are the two halves of `run`: `image` to `visual` [B, V, D]; that and `input_ids` to `logits`.
    """

    def __init__(self, vision: Session, fusion: Session):
        """Raises `VerificationFailed` if the output of the one is not the input of the other."""
        self.vision, self.fusion = vision, fusion
        given = {(spec.name, spec.dtype, spec.shape) for spec in vision.outputs}
        taken = {(spec.name, spec.dtype, spec.shape) for spec in fusion.inputs if spec.name == VISUAL}
        if given != taken or not taken:
            raise VerificationFailed("the vision and the fusion artifact do not fit together: export the bundle again")
        self.inputs = (*vision.inputs, *(spec for spec in fusion.inputs if spec.name != VISUAL))
        self.outputs = fusion.outputs
        self.runtime = vision.runtime
        self.thread_safe = vision.thread_safe and fusion.thread_safe

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        check_feeds(self.inputs, feeds)
        questions = {name: array for name, array in feeds.items() if name != "image"}
        return self.answer(self.encode({"image": feeds["image"]}), questions)

    def encode(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """{"image"} to {"visual"}."""
        return self.vision.run(feeds)

    def answer(self, visual: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]) -> Arrays:
        """{"visual"} and {"input_ids"} to {"logits"}."""
        return self.fusion.run({**visual, **feeds})
