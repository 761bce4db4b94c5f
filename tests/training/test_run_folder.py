"""A run folder: one process at a time, checkpoints that a power cut or a user left, and a disk that is full."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from killed_runs import rows  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgevl.cli.app import main
from edgevl.cli.failures import explain
from edgevl.errors import EdgeVLError, InputError
from edgevl.training import checkpoints, detect, distill, finetune, pretrain
from edgevl.training.data import errors_in_one_line
from edgevl.training.lock import exclusive
from edgevl.training.metric_log import MetricLog, read_rows
from edgevl.training.recipe import parse_recipe
from edgevl.training.run_folder import open_run

STAGES = {"pretrain": pretrain, "finetune": finetune, "distill": distill, "detect": detect}


@pytest.fixture
def short(finetune_values) -> dict:
    """Four steps with a checkpoint at each second one."""
    return finetune_values | {"steps": 4, "eval_samples": 0}


@pytest.fixture
def whole(tmp_path, short) -> Path:
    return finetune.run(parse_recipe(short, "test"), out=tmp_path / "whole")


@pytest.fixture
def cut(tmp_path, whole) -> Path:
    """The same run as if it had been killed after its last checkpoint and before its model was written."""
    folder = Path(shutil.copytree(whole, tmp_path / "cut"))
    shutil.rmtree(folder / "model")
    return folder


def resume(values: dict, folder: Path, said: list[str] | None = None) -> Path:
    note = said.append if said is not None else lambda text: None
    return finetune.run(parse_recipe(values, "test"), out=folder, resume=True, note=note)


# Processes.


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"])
@pytest.mark.parametrize("stage", STAGES)
def test_several_processes_are_refused_before_anything_is_written(stage, name, monkeypatch, tmp_path):
    recipe = {"detect": "detect_scenes", "finetune": "qat_scenes_nano_w8a8"}.get(stage, f"{stage}_scenes_nano")
    monkeypatch.setenv(name, "2")
    with pytest.raises(InputError, match=r"2 processes were started .*, and training supports one: run edgevl without"):
        STAGES[stage].run(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", ["1", "", "0", "many"])
def test_one_process_under_a_launcher_trains(count, monkeypatch, tmp_path, short):
    monkeypatch.setenv("WORLD_SIZE", count)
    folder = finetune.run(parse_recipe(short | {"steps": 1}, "test"), out=tmp_path / "run")
    assert list(rows(folder, "vqa")) == [1]


HOLDER = """
import multiprocessing, sys, time
from pathlib import Path
from edgevl.training.lock import exclusive
with exclusive(Path(sys.argv[1]) / ".lock") as mine:
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    print(mine, worker.pid, flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_dead_one_is_not_waited_for(cut, short, capsys):
    recipe = cut.with_suffix(".yaml")
    recipe.write_text(json.dumps(short), encoding="utf-8")
    command = [sys.executable, "-c", HOLDER, str(cut)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as holder:
        assert holder.stdout
        mine, worker = holder.stdout.readline().split()
        before = (cut / "metrics.jsonl").read_bytes()
        assert mine == "True" and main(["finetune", str(recipe), "--out", str(cut), "--resume"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines == [f"error: another process trains in {cut}: wait for it, stop it, or choose another --out"]
        assert (cut / "metrics.jsonl").read_bytes() == before
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(int(worker), 0)  # its worker lives on, as a loader's does for seconds, and holds nothing
        with exclusive(cut / ".lock") as free:
            assert free
        os.kill(int(worker), signal.SIGKILL)


def test_two_that_begin_at_once_do_not_share_a_folder(tmp_path, short):
    recipe = parse_recipe(short, "test")
    with (
        open_run(recipe, tmp_path / "run", resume=False),
        pytest.raises(InputError, match="another process trains in"),
        open_run(recipe, tmp_path / "run", resume=False),
    ):
        pass
    with pytest.raises(InputError, match="holds a run already"), open_run(recipe, tmp_path / "run", resume=False):
        pass


# Checkpoints.


def truncate(path: Path) -> None:
    os.truncate(path / "model.safetensors", 1000)


def empty_state(path: Path) -> None:
    (path / "state.json").write_text("", encoding="utf-8")


def deep_state(path: Path) -> None:
    (path / "state.json").write_text("[" * 10**5, encoding="utf-8")


def another_step(path: Path) -> None:
    (path / "state.json").write_text('{"step": 10}', encoding="utf-8")


def no_optimizer(path: Path) -> None:
    (path / "optimizer.safetensors").unlink()


def spoiled(file: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(file)), file)


def swapped_optimizer(path: Path) -> None:
    spoiled(str(path / "optimizer.safetensors"), lambda tensors: {"0.exp_avg": torch.zeros(3)})


def half_an_optimizer(path: Path) -> None:
    spoiled(str(path / "optimizer.safetensors"), lambda t: {k: v for k, v in t.items() if k != "0.exp_avg"})


def words_for_numbers(path: Path) -> None:
    spoiled(str(path / "optimizer.safetensors"), lambda tensors: tensors | {"x": torch.zeros(1)})


def another_model(path: Path) -> None:
    spoiled(str(path / "model.safetensors"), lambda t: {k: torch.zeros(3) for k in t})


def not_numbers(path: Path) -> None:
    spoiled(str(path / "model.safetensors"), lambda t: {k: v * float("nan") for k, v in t.items()})


DAMAGE = [
    truncate, empty_state, deep_state, another_step, no_optimizer, swapped_optimizer, half_an_optimizer,
    words_for_numbers, another_model, not_numbers,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_stepped_over_and_kept(damage, whole, cut, short):
    damage(cut / "checkpoint-00000004")
    said: list[str] = []
    resume(short, cut, said)
    assert len(said) == 1 and "checkpoint-00000004 is damaged (" in said[0] and "\n" not in said[0]
    assert said[0].endswith("renamed to checkpoint-00000004.damaged; the run goes on from step 2")
    assert (cut / "checkpoint-00000004.damaged" / "state.json").is_file()
    ours = [load_file(run / "checkpoint-00000004" / "model.safetensors") for run in (whole, cut)]
    assert all(torch.equal(ours[0][name], ours[1][name]) for name in ours[0])
    assert rows(cut, "vqa") == rows(whole, "vqa") and (cut / "model" / "config.json").is_file()


def test_a_run_without_a_whole_checkpoint_is_one_line_and_keeps_them(cut, short):
    for path in checkpoints.list_checkpoints(cut):
        truncate(path)
    with pytest.raises(InputError, match=r"no checkpoint in .*: checkpoint-00000004 is damaged .*Choose another --out"):
        resume(short, cut)
    assert len(checkpoints.list_checkpoints(cut)) == 2


def test_copies_of_the_user_are_not_ours(cut, short):
    names = ("checkpoint-00000004-good", "checkpoint-best", "checkpoint-keep2", "checkpoint-99", "checkpoint-000000099")
    for name in names:
        shutil.copytree(cut / "checkpoint-00000004", cut / name)
    shutil.rmtree(cut / "checkpoint-00000004")
    assert [path.name for path in checkpoints.list_checkpoints(cut)] == ["checkpoint-00000002"]
    resume(short, cut)
    assert [path.name for path in checkpoints.list_checkpoints(cut)] == ["checkpoint-00000002", "checkpoint-00000004"]
    assert all((cut / name / "optimizer.safetensors").is_file() for name in names)


def test_a_new_run_does_not_begin_among_checkpoints_of_another(cut, short):
    (cut / "recipe.yaml").unlink()
    with pytest.raises(InputError, match="holds checkpoint-00000004 of another run"):
        finetune.run(parse_recipe(short, "test"), out=cut)


def test_only_what_a_killed_process_was_writing_is_removed(cut, short):
    halves = (".checkpoint-00000006.tmp", ".checkpoint-00000006.tmp-123-0a1b2c3d")
    theirs = (".checkpoint-mine.tmp", ".checkpoint-00000006.tmp-keep", "checkpoint-00000006.tmp")
    for name in (*halves, *theirs):
        (cut / name).mkdir()
    resume(short, cut)
    assert not any((cut / name).exists() for name in halves) and all((cut / name).exists() for name in theirs)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """A power cut after the rename must find whole files; what was asked of the system, in order, shows that."""
    done: list[str] = []
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(os.readlink(f"/proc/self/fd/{number}")), sync(number)))
    monkeypatch.setattr(Path, "rename", lambda self, to: (done.append("rename"), rename(self, to))[1])
    module = torch.nn.Linear(2, 2)
    checkpoints.save(tmp_path, 2, module, torch.optim.AdamW(module.parameters()))
    before = [Path(path).name for path in done[: done.index("rename")]]
    assert {"model.safetensors", "optimizer.safetensors", "state.json"} < {*before}
    assert done[-1] == str(tmp_path)


# Divergence.


def test_a_run_that_diverges_at_its_last_step_fails_and_leaves_no_model(tmp_path, short, capsys):
    """The loss is looked at before the step, so it says nothing of the weights that the last one makes."""
    wild = short | {"optimizer": {"lr": 10, "weight_decay": 10, "warmup": 0}, "checkpoint_every": 1, "steps": 2}
    (tmp_path / "wild.yaml").write_text(json.dumps(wild), encoding="utf-8")
    assert main(["finetune", str(tmp_path / "wild.yaml"), "--out", str(tmp_path / "wild")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "not finite" in line and line.endswith("Lower optimizer.lr or raise optimizer.warmup")
    assert max(rows(tmp_path / "wild", "loss")) == 2, "the last loss was finite"
    assert not list((tmp_path / "wild").glob("model/*"))


def test_weights_that_are_not_finite_are_never_a_checkpoint(tmp_path):
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    kept = checkpoints.save(tmp_path, 2, module, optimizer)
    with torch.no_grad():
        module.weight[0, 0] = float("inf")
    with pytest.raises(EdgeVLError, match=r"after step 4, weight is not finite\. Lower optimizer\.lr"):
        checkpoints.save(tmp_path, 4, module, optimizer)
    assert checkpoints.list_checkpoints(tmp_path) == [kept] and [*tmp_path.iterdir()] == [kept]


def test_a_gradient_that_is_not_finite_stops_before_the_step(tmp_path, short, monkeypatch):
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args, **options: clip(*args, **options) * torch.inf)
    with pytest.raises(EdgeVLError, match="the gradient of step 1 is not finite, its loss is "):
        finetune.run(parse_recipe(short, "test"), out=tmp_path / "run")
    assert not checkpoints.list_checkpoints(tmp_path / "run")


# Metrics.


def test_metrics_that_were_torn_are_read_as_far_as_they_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        '{"step": 1, "loss": 2.5}',
        "garbage",
        "[" * 10**5,
        '{"step": "x"}',
        '{"loss": 1}',
        '{"step": 2, "loss": NaN}',
    ]
    path.write_text("\n".join([*lines, "\x00\x00", '{"step": 2, "loss": 2}', '{"step": 3, "lo']), encoding="utf-8")
    assert read_rows(path) == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2}]
    assert read_rows(tmp_path / "none") == []


def test_tensorboard_reads_each_step_once_after_a_run_went_on(tmp_path):
    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = MetricLog(tmp_path, first)
        for step in steps:
            log.write(step, {"loss": step + first / 10, "lr": 0.5})
        log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, round(event.value, 3)) for event in board.Scalars("loss")] == [
        (1, 1),
        (2, 2),
        (3, 3.2),
        (4, 4.2),
    ]
    assert [row["loss"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3.2, 4.2]


# The machine.


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a file system of some KiB, or makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kib: int) -> Path:
        again = ",remount" if os.path.ismount(folder) else ""
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k{again}", "edgevl-test", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root on Linux")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_wherever_it_is_met_and_the_run_goes_on(disk, tmp_path, short, whole, capsys):
    """The disk grows by a little each time, so that recipe, metrics, checkpoints and the model each find it full."""
    (tmp_path / "r.yaml").write_text(json.dumps(short), encoding="utf-8")
    command, code, met = ["finetune", str(tmp_path / "r.yaml"), "--out"], 2, set()
    need = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) // 1024
    sizes = [4, 8, 16, *range(64, need + 1024, max(256, need // 8)), 4 * need]
    for kib in sizes:
        folder = disk(kib) / "run"
        more = ["--resume"] if (folder / "recipe.yaml").is_file() else []
        code = main([*command, str(folder), *more])
        lines = capsys.readouterr().err.splitlines()
        if code == 0:
            break
        errors = [line for line in lines if line.startswith("error: ")]
        assert code == 2 and len(errors) == 1, lines
        assert "no space left" in errors[0] and "--resume" in errors[0]
        met.add(errors[0].split('"')[1])
        assert not list(folder.rglob("*.tmp-*")) and not list(folder.glob("model/.*"))
    assert code == 0 and rows(folder, "vqa") == rows(whole, "vqa")
    assert len(met) >= 2, met


def test_a_model_that_finds_the_disk_full_is_written_by_going_on(disk, tmp_path, short, capsys):
    """The last checkpoint fits, the model behind it does not."""
    (tmp_path / "r.yaml").write_text(json.dumps(short | {"checkpoint_every": 100}), encoding="utf-8")
    folder = disk(64 * 1024) / "run"
    command = ["finetune", str(tmp_path / "r.yaml"), "--out", str(folder)]
    assert main(command) == 0
    used = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if "model/" not in str(path))
    shutil.rmtree(folder / "model")
    disk(used // 1024 + 200)
    capsys.readouterr()
    assert main([*command, "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f'error: no space left to write in "{folder / "model"}": make room, then go on with --resume'
    disk(64 * 1024)
    assert main([*command, "--resume"]) == 0 and (folder / "model" / "model.safetensors").is_file()


def test_a_read_only_disk_is_one_line(disk, tmp_path, short, capsys):
    (tmp_path / "r.yaml").write_text(json.dumps(short | {"steps": 1}), encoding="utf-8")
    folder = disk(64 * 1024) / "run"
    subprocess.run(["mount", "-o", "remount,ro", str(folder.parent)], check=True)
    assert main(["finetune", str(tmp_path / "r.yaml"), "--out", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f'error: "{folder}" cannot be written to: choose another path with --out'


@pytest.mark.parametrize("limit", [200, 100_000])
def test_a_file_size_limit_is_one_line(limit, tmp_path, short, capsys):
    (tmp_path / "r.yaml").write_text(json.dumps(short | {"steps": 1}), encoding="utf-8")
    heed, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        code = main(["finetune", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, heed)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("error: no space left to write in") and "--resume" in line


def test_shared_memory_that_is_full_is_one_line(tmp_path, short):
    large = short | {"batch_size": 64, "steps": 2, "data": {"texts": 2, "workers": 2}}
    (tmp_path / "r.yaml").write_text(json.dumps(large), encoding="utf-8")
    script = 'mount -t tmpfs -o size=100k tmpfs /dev/shm || exit 77; exec "$@"'
    edgevl = [sys.executable, "-m", "edgevl", "finetune", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")]
    command = ["unshare", "-m", "sh", "-c", script, "sh", *edgevl]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("a small /dev/shm needs root on Linux")
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode == 77:
        pytest.skip("nothing can be mounted here")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: shared memory (/dev/shm) is full") and "data.workers=0" in line


@pytest.mark.parametrize(
    ("said", "fragment"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out "
         "of shared memory. Please try to raise your shared memory limit.", "shared memory (/dev/shm) is full"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "lower data.workers or batch_size"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", "lower data.workers or batch_size"),
    ],
)  # fmt: skip
def test_a_worker_that_the_machine_killed_is_one_line(said, fragment):
    def loader():
        raise RuntimeError(said)
        yield {}

    with pytest.raises(InputError) as error:
        list(errors_in_one_line(loader()))
    assert fragment in str(error.value) and "\n" not in str(error.value)


def test_memory_that_ran_out_is_one_line(tmp_path, short):
    recipe = parse_recipe(short, "test")
    with pytest.raises(InputError, match="too little memory"), open_run(recipe, tmp_path / "run", resume=False):
        torch.empty(2**50)
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")):
        code, line = explain(error)
        assert code == 2 and "too little memory" in line
    code, line = explain(RecursionError("maximum recursion depth exceeded"))
    assert code == 1 and line.startswith("something is nested too deeply")
