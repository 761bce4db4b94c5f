"""Retrieval: the picture of a caption and the caption of a picture, by contrast, then re-ranked by matching.

Fine-tuning goes on with two losses of pretraining, ITC and ITM, on the most specific captions. A model folder that can
retrieve holds their heads in `retrieval.safetensors`.

Shapes: N pictures with a caption each, B a batch of them, V visual tokens, D width, T text tokens, R best candidates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.checkpoint import load_weights, save_model
from edgevl.training.batch import visual_tokens
from edgevl.training.data import RetrievalSamples, batches, in_order
from edgevl.training.losses import ContrastLoss, LossContext, MatchingLoss
from edgevl.training.pretrain import RETRIEVAL_HEADS, PretrainObjective, save_retrieval_heads

RERANKED = 10  # R
EVAL_BATCH = 64  # pictures


def retrieval_heads(config: ModelConfig, folder: Path | None = None) -> dict[str, nn.Module]:
    """The losses `itc` and `itm`, with the heads of a model folder where it has them.

    Raises `InputError` when the file is damaged or does not fit the model.
    """
    context = LossContext(config, Tokenizer.from_words(VOCABULARY), (), {})  # neither reads the words
    path = folder / RETRIEVAL_HEADS if folder else None
    if path is None or not path.is_file():
        return {"itc": ContrastLoss(context), "itm": MatchingLoss(context)}
    heads = nn.ModuleDict({"itc": ContrastLoss(context, _embedding(path)), "itm": MatchingLoss(context)})
    load_weights(heads, path)
    return dict(heads.items())


def _embedding(path: Path) -> int:
    try:
        with safe_open(path, "pt") as file:
            return file.get_slice("itc.image_projection.weight").get_shape()[0]
    except Exception:  # whatever is wrong with the file, load_weights says it in one line
        return 64


class RetrievalObjective(PretrainObjective):
    """Fine-tuning for retrieval, through the loop of the other tasks. `evaluate`: recall on the validation split."""

    def __init__(self, model: Any, heads: dict[str, nn.Module], validation: RetrievalSamples, eval_samples: int):
        super().__init__(model.core, heads)
        self._model = [model]  # in a list: the core is in this module already
        self._validation, self._eval_samples = validation, eval_samples

    def evaluate(self) -> dict[str, float]:
        if not self._eval_samples:
            return {}
        device = next(self.parameters()).device
        visual, ids = [], []
        for batch in batches(self._validation, in_order(self._eval_samples, EVAL_BATCH), workers=0):
            batch = {key: value.to(device) for key, value in batch.items()}
            visual.append(visual_tokens(self.core, batch))
            ids.append(batch["captions"][:, 0])
        found = recall(self.core, self.losses, torch.cat(visual), torch.cat(ids), rerank=0)
        return {"val_accuracy": (found["text_to_image_r1"] + found["image_to_text_r1"]) / 2}

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        save_model(folder, self._model[0], tokenizer, list(ANSWERS))
        save_retrieval_heads(folder, dict(self.losses.items()))


def recall(
    core: Any, heads: Any, visual_NVD: Tensor, ids_NT: Tensor, at: Sequence[int] = (1, 5), rerank: int = RERANKED
) -> dict[str, float]:
    """Share of N texts whose own picture is among the best, `text_to_image_r1`, and of pictures, `image_to_text_r1`.

    By contrast over all N; with `rerank` also `…_reranked_r1`, where matching orders the R best of each.
    """
    with torch.no_grad():
        texts_NE, images_NE = heads["itc"].embed_texts(core, ids_NT), heads["itc"].embed_images(visual_NVD)
        similar_NN = texts_NE @ images_NE.T  # a row for each text
        found = {}
        for name, scores_NN in (("text_to_image", similar_NN), ("image_to_text", similar_NN.T)):
            order_NR = scores_NN.topk(min(len(scores_NN), max(*at, rerank)), dim=1).indices
            found |= {f"{name}_r{k}": _hits(order_NR, k) for k in at}
            if rerank:
                order_NR = order_NR[:, :rerank]
                matched = _matching(core, heads["itm"], visual_NVD, ids_NT, order_NR, name == "text_to_image")
                order_NR = order_NR.gather(1, matched.sort(dim=1, descending=True, stable=True).indices)
                found |= {f"{name}_reranked_r{k}": _hits(order_NR, k) for k in at}
    return found


def _hits(order_NR: Tensor, k: int) -> float:
    own_N1 = torch.arange(len(order_NR), device=order_NR.device)[:, None]
    return (order_NR[:, :k] == own_N1).any(1).float().mean().item()


def _matching(core: Any, itm: Any, visual_NVD: Tensor, ids_NT: Tensor, order_NR: Tensor, texts_ask: bool) -> Tensor:
    """Matching scores [N, R] of each asker with its candidates."""
    rows = []
    for asker, candidates_R in enumerate(order_NR):
        own_R = torch.full_like(candidates_R, asker)
        texts_R, pictures_R = (own_R, candidates_R) if texts_ask else (candidates_R, own_R)
        rows.append(itm.score(core, ids_NT[texts_R], visual_NVD[pictures_R]))
    return torch.stack(rows)
