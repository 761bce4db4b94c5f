"""Object loss: what a detector's training would have put into every visual token.

Shapes: B pictures, V = G * G cells, D width, P positive cells, N objects a picture at most.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, NameClassifier, PretrainingLoss, mean


@LOSSES.register("object")
class ObjectLoss(PretrainingLoss):
    """Dense and anchor-free, after FCOS (Tian et al. 2019): per token a center-ness, a box, a class and attributes.

    The class and the attributes are scored against the embeddings of their names. Box targets are the distances of the
    cell's center to the four sides, in units of the picture's side. Center-ness is 0 on the background, so that it is
    objectness too.
    """

    centers_V2: Tensor

    def __init__(self, context: LossContext):
        super().__init__(context)
        width, grid = context.config.width, context.config.grid
        self.classifier = NameClassifier(context.tokenizer, context.classes, width)
        self.attributes = nn.ModuleDict(
            {name: NameClassifier(context.tokenizer, values, width) for name, values in context.attributes.items()}
        )
        self.box = nn.Linear(width, 4)
        self.centerness = nn.Linear(width, 1)
        steps = (torch.arange(grid) + 0.5) / grid
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("centers_V2", torch.stack([columns, rows], -1).reshape(-1, 2), persistent=False)

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        positive_BV = batch["object_grid"] >= 0
        owner_BV = batch["object_grid"].clamp(min=0)
        boxes_BV4 = batch["boxes"].gather(1, owner_BV[..., None].expand(-1, -1, 4))
        sides_P4 = self._sides(boxes_BV4)[positive_BV]
        tokens_PD = visual_BVD[positive_BV]
        predicted_P4 = F.softplus(self.box(tokens_PD).float() - 2.0)
        centerness_BV = torch.zeros_like(positive_BV, dtype=torch.float32)
        centerness_BV[positive_BV] = center_ness(sides_P4)
        losses = {
            "object.center": F.binary_cross_entropy_with_logits(
                self.centerness(visual_BVD).squeeze(-1).float(), centerness_BV
            ),
            "object.box_l1": mean(F.l1_loss(predicted_P4, sides_P4, reduction="none")),
            "object.box_giou": self._giou_loss(predicted_P4, sides_P4),
            "object.class": self.classifier.loss(core.text, tokens_PD, batch["class_grid"][positive_BV] - 1),
        }
        for name, classifier in self.attributes.items():
            targets_P = batch[f"{name}_grid"][positive_BV] - 1
            losses[f"object.{name}"] = classifier.loss(core.text, tokens_PD, targets_P)  # pyright: ignore
        return losses

    def _sides(self, boxes_BV4: Tensor) -> Tensor:
        """Distances left, top, right, bottom of each cell's center to its box; at least 1e-3."""
        x, y = self.centers_V2.unbind(-1)
        x0, y0, x1, y1 = boxes_BV4.unbind(-1)
        return torch.stack([x - x0, y - y0, x1 - x, y1 - y], -1).clamp(min=1e-3)

    @staticmethod
    def _giou_loss(predicted_P4: Tensor, sides_P4: Tensor) -> Tensor:
        """GIoU (Rezatofighi et al. 2019) of boxes around the origin of each cell."""
        sign = predicted_P4.new_tensor([-1.0, -1.0, 1.0, 1.0])
        return mean(generalized_box_iou_loss(predicted_P4 * sign, sides_P4 * sign))


def center_ness(sides_P4: Tensor) -> Tensor:
    """FCOS's center-ness of (left, top, right, bottom): 1 in the middle of the box, toward 0 at its edge."""
    left, top, right, bottom = sides_P4.unbind(-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).sqrt()
