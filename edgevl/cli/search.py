"""`edgevl search`: pictures of a folder by words."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from edgevl.cli import console
from edgevl.cli.command import Json, command, names
from edgevl.cli.limited import SECONDS, MaxMemory, MaxSeconds, in_child
from edgevl.cli.progress import progress_bar
from edgevl.embedded import FINDS_PICTURES, model_folder

Data = dict[str, Any]


def add_to(app: typer.Typer) -> None:
    command(app, "search", example='edgevl search photos "a red car"')(search)


def search(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures. Its index is written into it once.")],
    text: Annotated[list[str] | None, typer.Argument(help="What to look for, in quotes; or several.")] = None,
    model: Annotated[
        str, typer.Option(help="A bundle or a model folder that finds pictures. Default: the embedded nano-retrieval.")
    ] = FINDS_PICTURES.name,
    labels: Annotated[
        str | None, typer.Option(help="Instead of a text: names with commas between; each picture gets the best one.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Pictures to list, at most.")] = 10,
    index: Annotated[
        Path | None, typer.Option(help="Where the index is. Default: a hidden file in the folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make the index anew.")] = False,
    max_seconds: MaxSeconds = SECONDS,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> None:
    """Find the pictures of a folder that fit a text, or the label that fits each picture."""
    from edgevl.bundle.folder import is_bundle
    from edgevl.errors import InputError
    from edgevl.search.finder import Embedder, Finder, notes_about

    if bool(text) == (labels is not None):
        raise InputError('give a text, such as "a red car", or --labels with two names or more')
    if is_bundle(source := model_folder(model)):
        in_child(max_seconds, max_memory)
    with progress_bar("search") as progress:
        finder = Finder.open(folder, Embedder.load(source), index, force, progress)
    data: Data = {"folder": str(folder), "model": finder.embedder.name, "pictures": len(finder.index.entries)}
    data |= dataclasses.asdict(finder.changes)
    for path, reason in list(finder.changes.skipped.items())[:5]:
        console.note(f"left out: {path}: {reason}")
    if labels is not None:
        data["labels"] = [dataclasses.asdict(hit) for hit in finder.label(names(labels))]
    else:
        data["queries"] = [_ask(finder, each, top) for each in text or []]
        for note in dict.fromkeys(note for each in text or [] for note in notes_about(each)):
            console.note(f"note: {note}")
    console.print_json(data) if json else _show(data)


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
