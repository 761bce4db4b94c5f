"""The region-feature pipeline as it is timed: neural parts in onnxruntime, suppression by torchvision."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.bench.harness import Stopwatch
from edgevl.bench.pipelines import Arrays, Query, runtime_name
from edgevl.regions.answerer import RegionConfig

UNTRAINED = "untrained weights: only time is claimed"


class FusedPipeline:
    """Regions that a subclass finds in a picture, then a fusion transformer.

    Args:
        folder: the exported files, with the tokenizer and the labels of the model that it is compared with.
        threads: of onnxruntime; torch's are the process's (`edgevl.bench.machine.pinned_threads`).
    """

    size: tuple[int, int]  # width and height of the picture that the detector reads

    def __init__(self, folder: Path, threads: int):
        from edgevl.bench.sessions import open_onnx
        from edgevl.inputs.tokenizer import Tokenizer

        self.folder = folder
        self.settings = json.loads((folder / "region.json").read_text(encoding="utf-8"))
        self.length = self.settings["model"]["text_length"]
        self.fusion = open_onnx(folder / "fusion.onnx", threads)
        self.tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
        self.labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))

    def regions(self, image: np.ndarray, watch: Stopwatch) -> tuple[np.ndarray, np.ndarray]:
        """Return features [K, F] and boxes [K, 4] in 0..1 of the K best regions of `image` uint8 [1, H, W, 3]."""
        raise NotImplementedError

    def prepare(self, query: Query, watch: Stopwatch) -> Arrays:
        from PIL import Image

        picture = query.picture(watch, lambda width, height: self.size)  # a JPEG may be smaller for an opponent, too
        with watch("resize"):
            pixels = np.asarray(picture.resize(self.size, Image.Resampling.BILINEAR))[None]
        with watch("tokenize"):
            words = self.tokenizer.encode(query.question, self.length)[None]
        return {"image": pixels, "input_ids": words}

    def infer(self, inputs: Arrays, watch: Stopwatch) -> np.ndarray:
        features, boxes = self.regions(inputs["image"], watch)
        with watch("fusion"):
            feed = {"features": features[None], "boxes": boxes[None], "input_ids": inputs["input_ids"]}
            return self.fusion.run(["logits"], feed)[0]

    def answer(self, logits: np.ndarray) -> str:
        return self.labels[int(logits[0].argmax())]


class RegionPipeline(FusedPipeline):
    """A detector with anchors and suppression, and the features of its best regions. `folder`: of `export_region`."""

    def __init__(self, folder: Path, threads: int):
        import torch

        from edgevl.bench.sessions import open_onnx

        super().__init__(folder, threads)
        self.config = RegionConfig(**self.settings["region"])
        self.size = (self.config.width, self.config.height)
        self.anchors = (torch.from_numpy(np.load(folder / "anchors.npy")), self.settings["anchor_counts"])
        self.trunk, self.boxes = (open_onnx(folder / f"{part}.onnx", threads) for part in ("trunk", "boxes"))
        self.name = self.config.name
        self.runtime = f"{runtime_name('onnx')}; NMS: torchvision on torch"
        self.proposals = self.candidates = 0  # of the last query: what the two suppressions were given

    def regions(self, image: np.ndarray, watch: Stopwatch) -> tuple[np.ndarray, np.ndarray]:
        import torch

        from edgevl.regions.stages import propose, refine_by_class, select_regions, split_by_level

        two_stage = self.config.two_stage
        with watch("backbone"):
            *maps, objectness, deltas = self._run_trunk(image)
        with watch("proposals" if two_stage else "detection NMS"):
            found = propose(self.config, torch.from_numpy(objectness), torch.from_numpy(deltas), *self.anchors)
        with watch("region features"):
            levels = split_by_level(self.config, found)
            features, *scores = self._run_boxes(maps, levels)
            found, self.proposals = torch.cat(levels), len(found)
        if two_stage:
            with watch("detection NMS"):
                logits, *deltas = map(torch.from_numpy, scores)
                if deltas and not self.config.per_class:
                    found = refine_by_class(self.config, found, logits, *deltas)
                chosen, self.candidates = select_regions(self.config, found, logits, *deltas)
                features, found = features[chosen.numpy()], found[chosen]
        with watch("region features"):
            boxes = (found / torch.tensor([self.config.width, self.config.height] * 2)).numpy()
            missing = self.config.regions - len(boxes)
            if missing:
                features, boxes = (np.pad(values, ((0, missing), (0, 0))) for values in (features, boxes))
        return features, boxes

    def _run_trunk(self, image: np.ndarray) -> list[Any]:
        """Feature maps stay with onnxruntime (57 MB that need no copy); objectness and deltas come as arrays."""
        import onnxruntime as ort

        values = self.trunk.run_with_ort_values(None, {"image": ort.OrtValue.ortvalue_from_numpy(image)})
        return [*values[:-2], *(value.numpy() for value in values[-2:])]

    def _run_boxes(self, maps: list[Any], levels: list[Any]) -> list[np.ndarray]:
        import onnxruntime as ort

        from edgevl.regions.export import rois_of

        feed = {f"map{level}": values for level, values in enumerate(maps)}
        for level, rois in enumerate(rois_of(levels)):
            feed[f"rois{level}"] = ort.OrtValue.ortvalue_from_numpy(rois.numpy())
        return [value.numpy() for value in self.boxes.run_with_ort_values(None, feed)]

    @property
    def notes(self) -> list[str]:
        """What a result must say beside its number, with the counts of the last query."""
        fusion = "BERT-base's size (12 layers, 768 wide)" if self.config.bert else "the model it is compared with"
        if self.config.trained:
            return [self._suppressions(), *self.config.remarks]
        return [UNTRAINED, self._suppressions(), *self.config.remarks, f"the fusion transformer is that of {fusion}"]

    def _suppressions(self) -> str:
        """The work that the suppressions got, in words."""
        config = self.config
        if not config.two_stage:
            return f"one NMS, class-agnostic: the {config.pre_nms:,} best anchors enter it, {self.proposals} leave it"
        first = f"{config.pre_nms:,} anchors a level enter the first, {self.proposals:,} proposals leave it"
        if not config.per_class:
            return f"NMS: {first}, and all enter the second, which is class-agnostic"
        return (
            f"NMS gets realistic work: {first}, {self.candidates} class scores pass {config.score_threshold} "
            "and enter the second"
        )


class SetPipeline(FusedPipeline):
    """D-FINE, its best queries as regions, a fusion transformer. `folder`: what `export_set_detector` wrote."""

    def __init__(self, folder: Path, threads: int):
        from edgevl.bench.sessions import open_onnx
        from edgevl.regions.set_detector import FILE, NAME, SetConfig

        super().__init__(folder, threads)
        self.config = SetConfig(**self.settings["set"])
        self.size = (self.config.size, self.config.size)
        self.name, self.runtime = NAME, runtime_name("onnx")
        self.detector = open_onnx(folder / FILE, threads)

    def regions(self, image: np.ndarray, watch: Stopwatch) -> tuple[np.ndarray, np.ndarray]:
        with watch("detector"):
            features, boxes = self.detector.run(["features", "boxes"], {"image": image})
        return features[0], boxes[0]

    @property
    def notes(self) -> list[str]:
        config = self.config
        chosen = f"no NMS: the {config.regions} best of {config.queries} queries are the regions"
        return [UNTRAINED, chosen, "the fusion transformer is that of the model it is compared with"]
