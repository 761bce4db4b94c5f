"""The objectives of fine-tuning: a batch of pictures and questions becomes a loss; accuracy; what is saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import VqaModel
from edgevl.models.checkpoint import save_model
from edgevl.tasks import task_named
from edgevl.training.batch import trim, visual_tokens
from edgevl.training.data import IGNORED, VqaSamples, batches, in_order


class AnswerObjective(nn.Module):
    """The losses of a task over the answers to K questions a picture, whatever gives the logits."""

    eval_batch = 64  # pictures

    def __init__(self, validation: VqaSamples, eval_samples: int, task: str):
        super().__init__()
        self._task = task_named(task)
        self._validation, self._eval_samples = validation, min(eval_samples, len(validation))

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits [B * K, A]."""
        raise NotImplementedError

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        """Write what was trained as a model folder."""
        raise NotImplementedError

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.task_losses(self.logits(batch), batch)

    def task_losses(self, logits_NA: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(self._task.losses({"logits": logits_NA}, batch))

    def evaluate(self) -> dict[str, float]:
        """Return the accuracy, by the task's rule: any right answer counts."""
        right = total = 0
        device = next(self.parameters()).device
        for batch in batches(self._validation, in_order(self._eval_samples, self.eval_batch), workers=0):
            batch = {key: value.to(device) for key, value in batch.items()}
            said_N1 = self.logits(batch).argmax(-1, keepdim=True)
            asked_N = batch["answers"].flatten() != IGNORED
            right += int((batch["right"].flatten(0, 1).gather(1, said_N1).squeeze(1) & asked_N).sum())
            total += int(asked_N.sum())
        return {"val_accuracy": right / total} if total else {}


class VqaObjective(AnswerObjective):
    """The objective of a plain model; the picture is encoded once for its questions."""

    def __init__(self, model: VqaModel, validation: VqaSamples, eval_samples: int, labels: Sequence[str]):
        super().__init__(validation, eval_samples, model.config.task)
        self.model, self.labels = model, labels

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        questions = trim(batch, "questions")["questions"]
        visual_NVD = visual_tokens(self.model.core, batch).repeat_interleave(questions.shape[1], 0)
        return self.model.answer(visual_NVD, questions.flatten(0, 1))

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        save_model(folder, self.model, tokenizer, list(self.labels))
