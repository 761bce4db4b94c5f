"""The folder of a run: what may be begun or gone on with in it, one process at a time, and what a full disk leaves."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgevl.atomic import CannotWrite, explain, write_atomically
from edgevl.errors import InputError, first_line, is_out_of_memory
from edgevl.training.checkpoints import list_checkpoints
from edgevl.training.lock import exclusive
from edgevl.training.recipe import Recipe, load_recipe
from edgevl.training.yaml_file import dump_yaml

_HALF = re.compile(r"\.checkpoint-\d{8}\.tmp(-\d+-[0-9a-f]+)?")
# Where torchrun, `accelerate launch` and MPI say how many processes they started; accelerate reads the same.
_PROCESSES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def recipe_of(stage: str, recipe: str | Path | Recipe, overrides: list[str] | None) -> Recipe:
    """The recipe, loaded unless it is one already. Raises `InputError` if it is for another stage."""
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    if recipe.stage != stage:
        command = "data detector" if recipe.stage == "detect" else recipe.stage
        raise InputError(f'the recipe "{recipe.name}" is for {recipe.stage}; run `edgevl {command}` with it')
    return recipe


def run_folder(recipe: Recipe, out: Path | None, resume: bool) -> Path:
    """The folder of a run, before anything is made.

    Raises `InputError` for one in use, one with nothing to resume, and where several processes were started.
    """
    _check_one_process()
    folder = Path(out) if out else Path("runs") / recipe.name
    _check_folder(folder, recipe, resume)
    return folder


@contextlib.contextmanager
def open_run(recipe: Recipe, folder: Path, resume: bool) -> Iterator[None]:
    """Make the run folder, hold it while inside, and save the resolved recipe in it unless it is there already.

    Raises `InputError` where another process trains in it, and for a full or read-only disk at any time while inside.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / ".lock") as mine:
            if not mine:
                raise InputError(f"another process trains in {folder}: wait for it, stop it, or choose another --out")
            _check_folder(folder, recipe, resume)  # somebody may have been here since
            _remove_halves(folder)
            if not (folder / "recipe.yaml").is_file():
                write_atomically(folder / "recipe.yaml", dump_yaml(json.loads(recipe.model_dump_json())))
            yield
    except Exception as error:
        explained = explain(error, folder)
        if isinstance(explained, CannotWrite) and explained.full:
            raise InputError(f"{explained.reason}: make room, then go on with --resume") from error
        if is_out_of_memory(error):
            raise InputError(
                f"this machine has too little memory for the recipe ({first_line(error, 200)}): lower batch_size, "
                "data.texts, data.workers or the sizes of the model"
            ) from error
        if explained is error:
            raise
        raise explained from error


def _check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    saved = folder / "recipe.yaml"
    if saved.is_file() and not resume:
        raise InputError(f"{folder} holds a run already; go on with --resume, or choose another --out")
    if resume and not saved.is_file():
        raise InputError(f"{folder} holds no run to go on with: check --out, or drop --resume to begin one")
    if saved.is_file() and load_recipe(saved) != recipe:
        raise InputError(f"{saved} differs from this recipe; a run resumes with the recipe it began with")
    if not resume and (found := list_checkpoints(folder)):
        raise InputError(f"{folder} holds {found[-1].name} of another run: choose another --out, or remove it")


def _check_one_process() -> None:
    """Raises `InputError` under a launcher of several processes: each would train a part of the steps."""
    for name in _PROCESSES:
        count = os.environ.get(name, "")
        if count.isascii() and count.isdigit() and int(count[:9]) > 1:
            raise InputError(
                f"{count[:9]} processes were started ({name}), and training supports one: run edgevl without torchrun, "
                "accelerate launch or mpirun"
            )


def _remove_halves(folder: Path) -> None:
    """Remove checkpoints that a killed process was writing: nobody else is at work here."""
    for path in folder.glob(".checkpoint-*"):
        if _HALF.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
