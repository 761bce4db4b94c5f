"""Region label loss, for region-feature models: every region token says what the detector took its region for.

Shapes: B pictures, K regions a picture, P of them that count, D width.
"""

from torch import Tensor, nn

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, NameClassifier, PretrainingLoss


@LOSSES.register("region_labels")
class RegionLabelLoss(PretrainingLoss):
    """Class and attributes of each region against the embeddings of their names, as the object loss has them.

    LXMERT (arXiv 1908.07490) and UNITER (arXiv 1909.11740) predict the detector's labels of masked regions, behind the
    transformer. Here no region is masked and the tokens are those before fusion: what ours are taught, no less.

    Args:
        min_score: regions that the detector is less sure of are left out.
    """

    def __init__(self, context: LossContext, min_score: float = 0.5):
        super().__init__(context)
        names = {"classes": context.classes, **context.attributes}
        self.classifiers = nn.ModuleDict(
            {name: NameClassifier(context.tokenizer, values, context.config.width) for name, values in names.items()}
        )
        self.min_score = min_score

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        kept_BK = batch["region_scores"] >= self.min_score
        tokens_PD, losses = visual_BVD[kept_BK], {}
        for name, classifier in self.classifiers.items():
            labels_P = batch[f"region_{name}"][kept_BK]
            losses[f"region_labels.{name}"] = classifier.loss(core.text, tokens_PD, labels_P)  # pyright: ignore
        return losses
