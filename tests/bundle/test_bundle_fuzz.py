"""Damaged bundles: a clean refusal, no traceback, nothing read or written outside, by edgevl and on the board alike.

Each mutation runs `verify`, `inspect` and `predict` in a forked child, since a damaged artifact could take the process
with it, and the board's script in another, which must end with the exit code of `verify`. The default run takes a fixed
choice of the first, and of the rest what the board takes too, with `verify` alone;
`pytest -m slow tests/bundle/test_bundle_fuzz.py` takes everything, and many again under strace, which sees what native
code opens too.
"""

import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from forked import FORBIDDEN, ROOT, Child, Forked, Outcome, board_line
from mutation_base import CANARY, Mutation
from mutations import all_mutations
from mutations_limits import limits
from mutations_schema_2 import schema_2

from edgevl.bundle.folder import Bundle
from edgevl.bundle.manifest import Manifest
from edgevl.errors import EdgeVLError
from edgevl.precisions import PRECISIONS

LIMITS = list(limits())
NEWER = list(schema_2())
MUTATIONS = [*all_mutations(), *LIMITS, *NEWER]
QUICK = random.Random(0).sample(all_mutations(), 200)
WITH_BOARD = [mutation for mutation in (*QUICK, *LIMITS, *NEWER) if mutation.base != "coreml"]  # in the default run
MAX_SECONDS, MAX_MB = 20, 1024  # of one child, beyond what the warm process has
# What verify finds and the board cannot: it has no reader of claims, and no checkpoint to compare with.
ONLY_VERIFY = r"of the checkpoint |is not the config\.json of |^parity: |^accuracy: | claims | holds no weights"
NAME = "x.edgevl"
# Nothing can be proved of these fields; a manifest may say there what it likes. `files` goes with a changed artifact.
FREE = {"license", "versions", "options", "provenance", "bench", "parity", "accuracy", "audit"}
SYSTEM = [
    sys.prefix,
    sys.base_prefix,
    str(ROOT),
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc",
    "/sys",
    "/dev/null",
]
READS = {"open", "os.listdir", "os.scandir"}


def test_there_are_enough_of_every_kind():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 600 and len(WITH_BOARD) >= 300
    assert {mutation.base for mutation in QUICK} == {"onnx", "coreml", "split"}
    assert len({mutation.kind.split(":")[0] for mutation in QUICK}) >= 9


@pytest.fixture(scope="module")
def place(forked) -> Path:
    return furnish_outside(forked.place)


@pytest.fixture(scope="module")
def intact(forked, place) -> dict:
    """What `predict` says of each good bundle."""
    found = {}
    for base in ("onnx", "coreml", "split", "onnx2", "split2"):
        outcome = forked.run(["predict", f"good/{base}.edgevl", "photo.png", "what is it?", "--json"]).outcomes[0]
        assert outcome.code == 0, outcome.stderr
        found[base] = json.loads(outcome.stdout)["scores"]
    return found


def furnish_outside(place: Path) -> Path:
    """Lay out what an attacker would like to have read: files that would do, and a canary in each text."""
    outside, good = place / "outside", place / "good"
    shutil.copytree(good / "onnx.edgevl", outside)
    weights = good / "coreml.edgevl/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    for file in (outside / "golden" / "wide.png", weights, good / "split.edgevl/model/vision.onnx"):
        shutil.copy(file, outside / file.name)
    labels = json.loads((outside / "labels.json").read_text(encoding="utf-8"))
    (outside / "labels.json").write_text(json.dumps([f"{CANARY}-{label}" for label in labels]), encoding="utf-8")
    for file in (outside / "README.md", place / "home" / "labels.json", outside / "secret.txt"):
        file.write_text(CANARY, encoding="utf-8")
    return place


@pytest.mark.parametrize("mutation", QUICK, ids=lambda mutation: mutation.name)
def test_a_clean_refusal(forked, board, place, intact, tools, mutation):
    check(mutation, forked, board, place, intact, tools.three_commands(NAME))


@pytest.mark.parametrize("mutation", [*LIMITS, *NEWER], ids=lambda mutation: mutation.name)
def test_verify_and_the_board_agree(forked, board, place, intact, tools, mutation):
    check(mutation, forked, board, place, intact, tools.three_commands(NAME)[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutation", [m for m in MUTATIONS if m not in QUICK and m not in LIMITS], ids=lambda mutation: mutation.name
)
def test_a_clean_refusal_of_the_others(forked, board, place, intact, tools, mutation):
    check(mutation, forked, board, place, intact, tools.three_commands(NAME))


@pytest.mark.parametrize("base", ["onnx", "split"])
def test_the_board_takes_what_is_whole(board, place, base):
    prepare(Mutation("none", base, lambda bundle: None), place)
    (outcome,) = board.run(board_line(NAME)).outcomes
    assert outcome.code == 0 and "6 of 6 golden cases" in outcome.stderr, outcome.stderr


@pytest.mark.slow
def test_native_code_opens_nothing_outside_either(bundles, tiny_model, tools, tmp_path):
    """Again under strace: what ONNX Runtime, protobuf and Core ML's reader open is no event in Python.

    It found that ONNX Runtime reports to its maker unless ORT_DISABLE_TELEMETRY is set before it is imported.
    """
    log = tmp_path / "strace.log"
    strace = [
        "strace",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-y",
        "-e",
        "trace=open,openat,openat2,creat,execve,connect",
        "-o",
    ]
    if not shutil.which("strace") or subprocess.run([*strace, log, "true"], capture_output=True).returncode:
        pytest.skip("needs strace")
    (tmp_path / "place").mkdir()
    place = tools.furnish(tmp_path / "place", bundles, tiny_model)
    server = Forked(place, tools.warming(bundles), prefix=[*strace, str(log)])
    furnish_outside(place)
    done = log.stat().st_size
    native = [mutation for mutation in MUTATIONS if mutation.kind in ("artifact", "outside", "golden")]
    for mutation in dict.fromkeys([*native, *QUICK[:60]]):
        prepare(mutation, place)
        server.run(*tools.three_commands(NAME), timeout=120)
    server.close()
    with log.open(errors="replace", encoding="utf-8") as file:
        file.seek(done)
        opened = {found.group(1) for line in file if (found := re.search(r" = \d+<([^>]*)>", line))}
        file.seek(done)
        started = [line for line in file if "execve(" in line or "AF_INET" in line]
    assert len(opened) > 50 and not started, started[:3]
    roots = [str(place / name) for name in (NAME, "tmp", "tiny-test", "photo.png")] + SYSTEM
    wrong = [path for path in opened if not any(path == root or path.startswith(root + "/") for root in roots)]
    assert not wrong, wrong


def test_the_harness_sees_what_it_must(forked, place):
    """A command that does read outside, ends in a hang, or crashes is noticed."""
    prepare(Mutation("none", "onnx", lambda bundle: None), place)
    seen = forked.run(["predict", NAME, "outside/wide.png", "what is it?"])
    with pytest.raises(AssertionError, match="outside"):
        assert_inside(seen, place)
    os.mkfifo(place / "tmp" / "pipe")
    with pytest.raises(AssertionError, match="hang"):
        assert_clean(forked.run(["bench", "--out", "tmp/pipe"], timeout=0.2).outcomes[0])
    crashed = forked.run(["report", NAME, "--out", "tmp/pipe/x"], ["no such command"], timeout=60).outcomes
    assert all(outcome.code == 2 for outcome in crashed), crashed


def check(mutation: Mutation, forked: Forked, board: Forked, place: Path, intact: dict, lines: list[list[str]]) -> None:
    """Run the lines, the first of which is that of `verify`, and the board's script."""
    bundle = prepare(mutation, place)
    manifest, changed, around = read(bundle), snapshot(bundle), surroundings(place)
    there = board.run(board_line(NAME), timeout=60)
    assert snapshot(bundle) == changed, "the board writes nothing into a bundle"
    child = forked.run(*lines, timeout=60)
    for outcome in child.outcomes:
        assert_clean(outcome)
    assert surroundings(place) == around, "something outside was changed"
    verify, *others = child.outcomes
    assert not (mutation.kind.startswith("refused") and verify.code == 0), "it must be refused"
    assert verify.code == 0 or snapshot(bundle) == changed, "a bundle that fails must stay as it is"
    for each in (child, there):
        assert_inside(each, place)
        assert each.seconds < MAX_SECONDS * len(each.outcomes) and each.more_mb < MAX_MB, each
    if mutation.base != "coreml":
        assert_agrees(there.outcomes[0], verify)
    if verify.code == 0:
        assert_harmless(mutation, verify, manifest, place)
    if others:
        assert_others(mutation, child.outcomes, intact.get(mutation.base))


def assert_others(mutation: Mutation, outcomes: tuple[Outcome, ...], scores: object) -> None:
    verify, inspect, predict = outcomes
    if verify.code and inspect.code == 0 and mutation.kind == "refused":
        assert json.loads(inspect.stdout)["problems"], "inspect says nothing of it"
    if predict.code == 0 and not mutation.name.endswith("forged"):
        assert json.loads(predict.stdout)["scores"] == scores, "another answer than the intact bundle's"


def assert_agrees(there: Outcome, verify: Outcome) -> None:
    """The board's script ends as `verify` does, with one line, but where `verify` knows more."""
    assert "Traceback" not in there.stderr and CANARY not in there.stdout + there.stderr
    assert len(there.errors) == (1 if there.code else 0), there.stderr
    if there.code == verify.code:
        return
    if "does not run here: export with --target" in there.stderr:  # another target that EdgeVL knows
        assert (there.code, verify.code) == (2, 4)
        return
    assert (there.code, verify.code) == (0, 4), (there.code, there.errors, verify.code, verify.stderr)
    problems = json.loads(verify.stdout)["audit"]["problems"]
    assert all(re.search(ONLY_VERIFY, problem) for problem in problems), problems


def prepare(mutation: Mutation, place: Path) -> Path:
    """A fresh bundle, mutated."""
    bundle = place / NAME
    for path in (bundle, *(place / "tmp").iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    shutil.copytree(place / "good" / f"{mutation.base}.edgevl", bundle)
    mutation.change(bundle)
    return bundle


def read(bundle: Path) -> Manifest | None:
    try:
        return Bundle.open(bundle).manifest
    except EdgeVLError:
        return None


def assert_clean(outcome: Outcome) -> None:
    text = outcome.stdout + outcome.stderr
    assert outcome.code in (0, 2, 4), (outcome.code, outcome.stderr[-2000:])
    assert "Traceback" not in text and "panicked" not in text, text[-2000:]
    assert CANARY not in text
    if outcome.code:
        assert len(outcome.errors) == 1 and len(outcome.stderr.splitlines()) == 1, outcome.stderr
    else:
        assert not outcome.errors


def assert_inside(child: Child, place: Path) -> None:
    """Nothing but the bundle, the checkpoint, the picture and the installation is read; nothing else is written."""
    assert not {event for event, _ in child.touched} & FORBIDDEN
    own = [str(place / name) for name in (NAME, "tmp")]
    readable = [*own, *(str(place / name) for name in ("tiny-test", "photo.png")), *SYSTEM]
    for event, path in child.touched:
        roots = readable if event in READS else own
        assert path == "." or any(path == root or path.startswith(root + "/") for root in roots), (event, path)


def assert_harmless(mutation: Mutation, verify: Outcome, manifest: Manifest | None, place: Path) -> None:
    """A mutation may pass where nothing but free fields changed, or the artifact is measured to be as good."""
    good = Bundle.open(place / "good" / f"{mutation.base}.edgevl").manifest
    assert manifest is not None
    differing = {name for name in Manifest.model_fields if getattr(good, name) != getattr(manifest, name)}
    report = json.loads(verify.stdout)
    assert report["golden"] == {"passed": 6, "total": 6}
    if mutation.kind in ("artifact", "outside"):
        assert differing == {"files"} and report["parity"]["snr_db"] >= PRECISIONS[manifest.precision].thresholds.snr_db
    else:
        assert differing <= FREE, differing


def snapshot(folder: Path) -> list[tuple]:
    """Everything in a folder, links not followed: path, mode, size, time, and where a link leads."""
    found = []
    for directory, folders, names in os.walk(os.fsencode(folder)):
        for name in [b".", *folders, *names]:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            found.append(
                (path, info.st_mode, info.st_size, info.st_mtime_ns, stat.S_ISLNK(info.st_mode) and os.readlink(path))
            )
    return found


def surroundings(place: Path) -> list:
    return [
        sorted(set(os.listdir(place)) - {NAME}),
        *(snapshot(place / name) for name in ("outside", "home", "tiny-test", "good")),
    ]
