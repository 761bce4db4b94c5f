"""`edgevl bench BUNDLE --device ssh:user@host`: the script of apps/jetson does the work where the model will run.

Everything goes through the system's own ssh (its configuration, keys and known hosts hold), and nothing stays on the
device but TensorRT's engines, in ~/.cache/edgevl/engines. EDGEVL_SSH replaces the command, as GIT_SSH_COMMAND does.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import edgevl
from edgevl.bench.conversation import converse
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.presets import PRESETS
from edgevl.bench.schema import BenchReport
from edgevl.bundle.folder import Bundle
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.progress import Progress

SCRIPT = Path(edgevl.__file__).parent / "apps" / "jetson"
ADDRESS = re.compile(r"ssh:((?:[\w.][\w.-]*@)?(?:[\w.][\w.-]*|\[[0-9a-fA-F:.]+(?:%\w+)?\]))(?::(\d{1,5}))?")
# What a person would otherwise be asked for, or wait for without end.
SETTINGS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")
TARGETS = ("onnx", "tensorrt")
BUNDLE, PICTURE = "model.edgevl", "picture.jpg"  # in the folder on the device
NO_PYTHON, OLD_PYTHON = 93, 94  # exit codes of `_PREPARE`
FOLDER = re.compile(r"/[^\x00-\x20\x7f]{1,1000}")  # that the device may name
PREPARE_S = 60.0  # for `_PREPARE`
STEPS = 8  # lines of progress: connect, copy, and what the script says
_PREPARE = f"""
command -v python3 >/dev/null || exit {NO_PYTHON}
python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' || exit {OLD_PYTHON}
mktemp -d "${{TMPDIR:-/tmp}}/edgevl-bench.XXXXXX"
"""
_REASONS = {  # what ssh says -> what to do
    "Could not resolve hostname": "check the name",
    "Connection refused": "is its ssh server running, and on this port (ssh:user@host:port)?",
    "Connection timed out": "is it switched on and in this network?",
    "No route to host": "is it switched on and in this network?",
    "Host key verification failed": "its key is not the one that is known: connect with ssh once and look at it",
    "Permission denied": "install your key there with ssh-copy-id",
}


class MissingOnDevice(MissingDependency):
    """The device lacks something. The message says what and how to get it there; no extra of ours brings it."""

    def __init__(self, message: str):
        EdgeVLError.__init__(self, message)


@dataclasses.dataclass(frozen=True)
class Device:
    """A machine that ssh reaches."""

    host: str  # "user@host", as ssh takes it
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Device":
        """From "ssh:user@host:port"; user and port may be missing. Raises `InputError`."""
        found = ADDRESS.fullmatch(text)
        if not found:
            raise InputError(f'"{text}" is not a device: give ssh:user@host or ssh:user@host:port')
        port = int(found[2]) if found[2] else None
        if port is not None and not 0 < port < 65536:
            raise InputError(f'"{text}": a port is a number from 1 to 65535')
        return cls(found[1].replace("[", "").replace("]", ""), port)

    def command(self, script: str) -> list[str]:
        """What runs a script of the plain shell there, whatever shell its user has."""
        try:
            ssh = shlex.split(os.environ.get("EDGEVL_SSH", "ssh"))
        except ValueError as error:  # a quote that is never closed
            raise InputError(
                f"EDGEVL_SSH is no command line ({str(error).lower()}): {os.environ['EDGEVL_SSH']}"
            ) from None
        if not ssh or not shutil.which(ssh[0]):
            raise MissingOnDevice("there is no ssh client here: on Debian, apt-get install openssh-client")
        options = [word for setting in SETTINGS for word in ("-o", setting)] + (
            ["-p", str(self.port)] if self.port else []
        )
        return [*ssh, *options, "--", self.host, f"sh -c {shlex.quote(script)}"]


def bench_on_device(
    path: str | Path,
    device: str,
    preset: str = "rapid",
    threads: int | None = None,
    progress: Progress | None = None,
    timeout: float = 3600.0,
    frame: str | None = "nv12",
) -> BenchReport:
    """Copy a bundle and the standalone script to a device, run it there, and bring its report back.

    Args:
        path: a bundle for onnx or tensorrt.
        device: "ssh:user@host" or "ssh:user@host:port".
        threads: of onnxruntime there; None leaves the choice to the script.
        progress: called with (done, total, text).
        frame: what the scope `frame` begins with, "nv12" or "rgb"; None leaves it out.
        timeout: seconds that the copy may take, and the run with the building of an engine.
    Raises:
        InputError: no such bundle or device, or the device cannot be reached.
        MissingDependency: no ssh here; no Python 3.8, numpy, Pillow or runtime there.
        VerificationFailed: the bundle is damaged, or a golden case fails there.
        EdgeVLError: the connection broke, the run took too long, or what the device says is no report or has no end.
    """
    target, plan = Device.parse(device), PRESETS[preset]
    bundle = Bundle.open(path)
    if bundle.manifest.target not in TARGETS:
        raise InputError(
            f'"{path}" is for {bundle.manifest.target}: a device runs bundles for onnx or tensorrt, '
            "edgevl export --target onnx"
        )
    copy = bundle.checked()
    say = _counted(progress)
    say(f"connecting to {target.host}")
    folder = _prepare(target)
    with _removed_on_failure(target, folder):
        say(f"copying {bundle.path.name}")
        _copy(target, folder, copy, timeout)
        output = _run(target, _arguments(folder, copy, plan.name, threads, frame), say, timeout)
    report = _report(output, target)
    if any(result.artifact_sha256 != bundle.artifact_sha256 for result in report.results):
        raise VerificationFailed(f"{target.host} measured another artifact than that of {bundle.path}")
    return report


def _counted(progress: Progress | None) -> Callable[[str], None]:
    done = 0

    def say(text: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(min(done, STEPS), STEPS, text)

    return say


def _prepare(device: Device) -> str:
    """A new folder on the device. Raises if it cannot be reached or has no Python that will do."""
    said = converse(device.command(_PREPARE), device.host, PREPARE_S)
    if said.code in (NO_PYTHON, OLD_PYTHON):
        what = (
            "has no python3" if said.code == NO_PYTHON else "has a python3 older than 3.8, or one that does not start"
        )
        raise MissingOnDevice(f"{device.host} {what}: install Python 3.8 or later there (apt-get install python3)")
    words = said.output.split()
    if said.code or not words or not FOLDER.fullmatch(words[-1]):
        raise _ssh_error(device, said.code, said.lines)
    return words[-1]  # the last: a shell's start-up files may print something first


@contextlib.contextmanager
def _removed_on_failure(device: Device, folder: str) -> Iterator[None]:
    """The script's shell removes the folder when it ends; where it was never started, this does."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(EdgeVLError, OSError):
            converse(device.command(f"rm -rf {shlex.quote(folder)}"), device.host, timeout=20)
        raise


def _copy(device: Device, folder: str, bundle: Bundle, timeout: float) -> None:
    """The script, the bundle, and the picture that `edgevl bench` times everywhere, as one tar through ssh."""
    command = device.command(f"tar -x -f - -C {shlex.quote(folder)}")
    said = converse(command, device.host, timeout, write=lambda stream: _write_archive(stream, bundle))
    if said.code:
        raise _ssh_error(device, said.code, said.lines)


def _write_archive(stream: IO[bytes], bundle: Bundle) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for file in sorted(path for path in SCRIPT.rglob("*") if path.suffix in (".py", ".json")):
            archive.add(file, f"script/{file.relative_to(SCRIPT)}", filter=_plain)
        archive.add(bundle.path, BUNDLE, filter=_plain)
        data, picture = encode(make_photo()), tarfile.TarInfo(PICTURE)
        picture.size = len(data)
        archive.addfile(picture, io.BytesIO(data))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's user and group: the device has others."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _arguments(folder: str, bundle: Bundle, preset: str, threads: int | None, frame: str | None) -> str:
    """The shell script that runs the benchmark and removes everything but the engines.

    The text is that of the bundle's first golden case, which the script takes without being told; of a model that reads
    one picture it is the same that is timed here.
    """
    quoted = shlex.quote(folder)
    words = [
        "python3", f"{folder}/script/benchmark.py", f"{folder}/{BUNDLE}", "--preset", preset, "--out", "-",
        "--frame", frame or "none", "--until-stdin-closes",
    ]  # fmt: skip
    words += ["--image", f"{folder}/{PICTURE}"] if bundle.opened(run=False).reads[0] == 1 else []
    words += ["--threads", str(threads)] if threads else []
    command = shlex.join(words)
    if bundle.manifest.target == "tensorrt":
        digest = bundle.artifact_sha256[:16]
        command += f' --engines "${{XDG_CACHE_HOME:-$HOME/.cache}}/edgevl/engines/{digest}"'
    return f"trap 'rm -rf {quoted}' EXIT; PYTHONDONTWRITEBYTECODE=1 {command}"


def _run(device: Device, script: str, say: Callable[[str], None], timeout: float) -> str:
    """Run the script; returns its standard output. Closing its standard input, however that happens, ends it there."""
    said = converse(device.command(script), device.host, timeout, heard=say, keep_open=True)
    if said.code:
        raise _script_error(device, said.code, said.lines)
    return said.output


def _script_error(device: Device, code: int, lines: Sequence[str]) -> EdgeVLError:
    """The script's own line with the exit code of this side. Codes of ssh are `_ssh_error`'s."""
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if not reasons:
        return _ssh_error(device, code, lines)
    kinds = {2: InputError, 3: MissingOnDevice, 4: VerificationFailed}
    return kinds.get(code, EdgeVLError)(f"on {device.host}: {reasons[-1]}")


def _ssh_error(device: Device, code: int, lines: Sequence[str]) -> EdgeVLError:
    said = [line.strip() for line in lines if line.strip()]
    for line in said:
        for sign, advice in _REASONS.items():
            if sign in line:
                return InputError(f"{device.host} cannot be reached ({sign}): {advice}")
    what = said[-1] if said else f"status {code}"
    if code == 255:
        return EdgeVLError(f"the connection to {device.host} broke ({what}): try again")
    return EdgeVLError(f"a command failed on {device.host}: {what}")


def _report(output: str, device: Device) -> BenchReport:
    from pydantic import ValidationError

    last = output.strip().rpartition("\n")[2]
    try:
        report = BenchReport.model_validate_json(last)
        json.dumps(report.to_json(), allow_nan=False)  # 1e999 is JSON, and infinite
    except (ValidationError, ValueError):
        raise EdgeVLError(f"{device.host} sent no report back: {last[:200] or 'nothing'}") from None
    if not report.results:
        raise EdgeVLError(f"{device.host} sent a report without a result back")
    return report
