"""The worst answers of a model: sure and wrong; with what it looked at, drawn on the picture.

Shapes: N samples, G grid side, V = G * G cells, T text tokens, S picture side.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from edgevl.data import open_scenes
from edgevl.models.checkpoint import LoadedModel
from edgevl.training.distill import trace
from edgevl.training.study.answers import Evaluation, Samples

SHOWN = 192  # side of a drawn picture, in pixels


def worst_samples(loaded: LoadedModel, samples: Samples, answers: Evaluation, count: int) -> list[dict[str, Any]]:
    """The `count` samples whose right answer got the smallest probability, worst first, as plain numbers.

    `looked_at`: the share of the attention of [CLS] in the last block, mean over heads, that went to each cell.
    """
    logits_NA = torch.from_numpy(answers.logits_NA).double()
    chances_NA = logits_NA.softmax(-1)
    right_N = torch.tensor([loaded.labels.index(answer) for answer in samples.answers])
    own_N = chances_NA.gather(1, right_N[:, None]).squeeze(1)
    found = []
    for index in own_N.sort(stable=True).indices[:count].tolist():
        said = int(chances_NA[index].argmax())
        found.append(
            {
                "data": samples.data,
                "index": index,
                "size": samples.pixels_NSS3.shape[1],
                "question": samples.questions[index],
                "answer": samples.answers[index],
                "said": loaded.labels[said],
                "p_said": round(chances_NA[index, said].item(), 4),
                "p_answer": round(own_N[index].item(), 6),
                "looked_at": looked_at(loaded, samples, index),
            }
        )
    return found


def looked_at(loaded: LoadedModel, samples: Samples, index: int) -> list[float]:
    """Attention of [CLS] over the V cells for one sample; the rest went to words."""
    ids = loaded.tokenizer.encode_batch([samples.questions[index]], loaded.config.text_length)
    image = torch.from_numpy(samples.pixels_NSS3[index].transpose(2, 0, 1).copy())[None]
    batch = {"image": image, "questions": torch.from_numpy(ids)[None].long()}
    with torch.no_grad():
        shares_1L = trace(loaded.model, batch).attention(loaded.config.grid**2)
    return [round(share, 4) for share in shares_1L[0, -(loaded.config.grid**2) :].tolist()]


def draw_worst(sample: Mapping[str, Any]) -> Image.Image:
    """The picture, and beside it the same, dark where the model did not look. Drawn anew from its index."""
    scene = open_scenes(sample["data"], size=sample["size"]).scene(sample["index"])
    picture = Image.fromarray(scene.image).resize((SHOWN, SHOWN), Image.Resampling.BILINEAR)
    side = round(len(sample["looked_at"]) ** 0.5)
    shares_GG = np.array(sample["looked_at"], np.float32).reshape(side, side)
    light = Image.fromarray((255 * shares_GG / max(float(shares_GG.max()), 1e-6)).astype(np.uint8))
    light = light.resize((SHOWN, SHOWN), Image.Resampling.NEAREST)
    dark = Image.eval(picture, lambda value: value // 4)
    both = Image.new("RGB", (2 * SHOWN + 4, SHOWN), "white")
    both.paste(picture, (0, 0))
    both.paste(Image.composite(picture, dark, light), (SHOWN + 4, 0))
    return both
