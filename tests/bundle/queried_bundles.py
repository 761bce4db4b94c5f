"""Bundles of the six small models, which no task of ours made: written as `edgevl export` writes them, for ONNX."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgevl.bundle import golden
from edgevl.contracts import Deployable, Query
from edgevl.export.bundle_export import Request, _finish, _precisions, _write_texts
from edgevl.export.registry import get_exporter
from edgevl.opened import eager


def small_bundle(
    model: Deployable, queries: Sequence[Query], folder: Path, layout: str | None = None, batch: int = 1
) -> Path:
    """Write a bundle of a model whose golden cases are these queries; returns its folder."""
    exporter, layout = get_exporter("onnx"), layout or model.layouts[0]
    request = Request(exporter, "fp32", layout, batch, exporter.check_options(None, "fp32"))
    programs = model.programs(layout)
    folder.mkdir(parents=True)
    _write_texts(model, folder)
    with pytest.MonkeyPatch.context() as patch:  # the data sets have no records with two pictures
        patch.setattr(golden, "_choose", lambda *_: ((f"{index}-query", query) for index, query in enumerate(queries)))
        golden.write_golden(eager(model), folder, _precisions(programs, request), "queries of a test")
    exporter.export(model, folder, "fp32", layout, batch, request.options)
    _finish(model, request, programs, folder, None)
    return folder
