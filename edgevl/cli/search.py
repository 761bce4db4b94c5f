"""`edgevl search`: pictures of a folder by words."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from edgevl.cli import console
from edgevl.cli.command import Json, command, model_argument
from edgevl.cli.progress import progress_bar

Data = dict[str, Any]
TRAINED = Path("runs/retrieval_scenes_nano/model")  # the default model


def add_to(app: typer.Typer) -> None:
    command(app, "search", example='edgevl search photos "a red car" --model runs/retrieval_scenes_nano/model')(search)


def search(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures. Its index is written into it once.")],
    text: Annotated[list[str] | None, typer.Argument(help="What to look for, in quotes; or several.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model folder that finds pictures. Default: what the recipe retrieval_scenes_nano left."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Instead of a text: names with commas between; each picture gets the best one.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Pictures to list, at most.")] = 10,
    index: Annotated[
        Path | None, typer.Option(help="Where the index is. Default: a hidden file in the folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make the index anew.")] = False,
    json: Json = False,
) -> None:
    """Find the pictures of a folder that fit a text, or the label that fits each picture."""
    from edgevl.errors import InputError
    from edgevl.models.kinds import open_deployable
    from edgevl.search.finder import Embedder, Finder, notes_about

    if bool(text) == (labels is not None):
        raise InputError('give a text, such as "a red car", or --labels with two names or more')
    with progress_bar("search") as progress:
        finder = Finder.open(folder, Embedder(open_deployable(_model(model))), index, force, progress)
    data: Data = {"folder": str(folder), "model": finder.embedder.model.name, "pictures": len(finder.index.entries)}
    data |= dataclasses.asdict(finder.changes)
    for path, reason in list(finder.changes.skipped.items())[:5]:
        console.note(f"left out: {path}: {reason}")
    if labels is not None:
        data["labels"] = [dataclasses.asdict(hit) for hit in finder.label([name.strip() for name in labels.split(",")])]
    else:
        data["queries"] = [_ask(finder, each, top) for each in text or []]
        for note in dict.fromkeys(note for each in text or [] for note in notes_about(each)):
            console.note(f"note: {note}")
    console.print_json(data) if json else _show(data)


def _model(given: str | None) -> Path | None:
    """Return the model to search with. Raises `InputError` where none was named and none was trained."""
    from edgevl.errors import InputError

    if given is None and not TRAINED.exists():
        raise InputError(
            f"there is no {TRAINED}: train it (edgevl finetune {TRAINED.parent.name}), or name a model with --model"
        )
    return model_argument(given) if given is not None else TRAINED


def _ask(finder: Any, text: str, top: int) -> Data:
    started = time.perf_counter()
    hits = finder.find(text, top)
    seconds = time.perf_counter() - started
    found = [{"path": hit.path, "score": hit.score} for hit in hits]
    return {"text": text, "seconds": round(seconds, 6), "found": found}


def _show(data: Data) -> None:
    counts = {"embedded": "new", "moved": "renamed", "removed": "removed"}
    changed = ", ".join(f"{data[key]:,} {name}" for key, name in counts.items() if data[key])
    left_out = f", {len(data['skipped']):,} left out" if data["skipped"] else ""
    console.note(f"{data['pictures']:,} pictures{f' ({changed})' if changed else ''}{left_out}")
    for query in data.get("queries", []):
        if len(data["queries"]) > 1:
            console.result((query["text"], "bold"))
        for hit in query["found"]:
            console.result(f"{hit['score']:.3f}  {hit['path']}")
    for hit in data.get("labels", []):
        console.result(f"{hit['label']}  {100 * hit['score']:.1f} %  {hit['path']}")
