"""`edgevl bench --device` against a real sshd on loopback: own port, keys and configuration, as the current user."""

import contextlib
import getpass
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgevl.bench import BenchReport, remote
from edgevl.bench.remote import Device, bench_on_device
from edgevl.bundle.folder import Bundle
from edgevl.cli import main
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
needs_sshd = pytest.mark.skipif(not (SSHD and shutil.which("ssh")), reason="apt-get install openssh-server brings it")


@dataclass
class Server:
    """An sshd whose sessions see `path` as PATH and `temporary` as TMPDIR and home of the cache."""

    device: str
    folder: Path
    temporary: Path
    programs: Path

    def leftovers(self) -> list[Path]:
        return list(self.temporary.glob("edgevl-bench.*"))


def key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]
    subprocess.run(list(map(str, command)), check=True)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """On the device only this Python, tar and what a shell needs are on the PATH."""
    folder = tmp_path / "ssh"
    programs, temporary = folder / "bin", folder / "tmp"
    for made in (programs, temporary):
        made.mkdir(parents=True)
    for name in ("sh", "tar", "mktemp", "rm", "sleep"):
        (programs / name).symlink_to(shutil.which(name) or name)
    (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (programs / "python3").chmod(0o755)
    host, user, port = key(folder / "host"), key(folder / "user"), free_port()
    (folder / "authorized").write_text((folder / "user.pub").read_text(encoding="utf-8"), encoding="utf-8")
    known = (folder / "host.pub").read_text(encoding="utf-8").split()[:2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {' '.join(known)}\n", encoding="utf-8")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nForceCommand {folder}/session\n",
        encoding="utf-8",
    )
    (folder / "session").write_text(  # whatever the start-up files of this user do to the PATH
        f"#!/bin/sh\nexport PATH={programs} TMPDIR={temporary} XDG_CACHE_HOME={folder}/cache\n"
        'exec sh -c "$SSH_ORIGINAL_COMMAND"\n',
        encoding="utf-8",
    )
    (folder / "session").chmod(0o755)
    (folder / "config").write_text(
        f"Host *\n  IdentityFile {user}\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n"
        "  StrictHostKeyChecking yes\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("EDGEVL_SSH", f"ssh -F {folder}/config")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd confines itself before a login
    assert SSHD
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=(folder / "log").open("w", encoding="utf-8")
    )
    try:
        wait_for(port, process, folder / "log")
        yield Server(f"ssh:{getpass.getuser()}@127.0.0.1:{port}", folder, temporary, programs)
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {log.read_text('utf-8')[-200:]}")
        time.sleep(0.1)
    pytest.fail(f"sshd does not answer: {log.read_text('utf-8')}")


@needs_sshd
def test_a_report_from_a_device(bundles, server, capsys, tmp_path):
    out = tmp_path / "bench.json"
    words = ["bench", bundles["onnx"], "--device", server.device, "--threads", 1, "--out", out]
    assert main(list(map(str, words))) == 0
    report = BenchReport.model_validate_json(out.read_bytes())
    assert [result.scope for result in report.results] == ["model", "pipeline", "frame"]
    assert report.results[0].artifact_sha256 == Bundle.open(bundles["onnx"]).artifact_sha256
    assert "timed on picture.jpg, 1000 x 600" in report.results[0].notes
    said = capsys.readouterr()
    assert "tiny-test-onnx-fp32" in said.out and "edgevl report" in said.err
    assert not server.leftovers()


@needs_sshd
def test_json_alone_from_a_chatty_shell(bundles, server, capsys):
    """A start-up file that prints something must not end up in the report."""
    (server.programs / "sh").unlink()
    (server.programs / "sh").write_text('#!/bin/dash\necho welcome\nexec /bin/sh "$@"\n', encoding="utf-8")
    (server.programs / "sh").chmod(0o755)
    assert main(["bench", str(bundles["split"]), "--device", server.device, "--json"]) == 0
    assert BenchReport.model_validate_json(capsys.readouterr().out).results
    assert not server.leftovers()


@needs_sshd
def test_what_the_device_lacks(bundles, server, monkeypatch):
    python = server.programs / "python3"
    blocked = server.folder / "blocked"
    blocked.mkdir()
    (blocked / "onnxruntime.py").write_text("raise ImportError('not here', name='onnxruntime')\n", encoding="utf-8")
    python.write_text(f'#!/bin/sh\nPYTHONPATH={blocked} exec {sys.executable} "$@"\n', encoding="utf-8")
    with pytest.raises(MissingDependency, match=r"on .*@127\.0\.0\.1: .*python3 -m pip install onnxruntime") as caught:
        bench_on_device(bundles["onnx"], server.device)
    assert caught.value.exit_code == 3
    python.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    with pytest.raises(MissingDependency, match="has a python3 older than"):
        bench_on_device(bundles["onnx"], server.device)
    python.unlink()
    with pytest.raises(MissingDependency, match="has no python3"):
        bench_on_device(bundles["onnx"], server.device)
    assert not server.leftovers()


@needs_sshd
def test_a_tensorrt_bundle_needs_tensorrt_there(bundles, server):
    with pytest.raises(MissingDependency, match=r"GPU|cannot be imported"):
        bench_on_device(bundles["tensorrt"], server.device)
    assert not server.leftovers()


@needs_sshd
def test_a_bundle_that_breaks_on_the_way(bundles, server):
    """A tar there that changes a file: the device's own check of digests finds it."""
    (server.programs / "tar").unlink()
    spoil = f'for file in {server.temporary}/*/model.edgevl/model.onnx; do echo x >> "$file"; done'
    (server.programs / "tar").write_text(f'#!/bin/sh\n{shutil.which("tar")} "$@"\n{spoil}\n', encoding="utf-8")
    (server.programs / "tar").chmod(0o755)
    with pytest.raises(VerificationFailed, match=r"on .*: model\.onnx has changed"):
        bench_on_device(bundles["onnx"], server.device)
    assert not server.leftovers()


@needs_sshd
def test_a_copy_that_fails_leaves_nothing(bundles, server):
    (server.programs / "tar").unlink()
    with pytest.raises(EdgeVLError, match=r"a command failed on .*tar"):
        bench_on_device(bundles["onnx"], server.device)
    assert not server.leftovers()


@needs_sshd
def test_keys_and_names_that_are_wrong(bundles, server, monkeypatch):
    other = key(server.folder / "other")
    known = server.folder / "known"
    place, right = known.read_text(encoding="utf-8").split(" ", 1)
    known.write_text(
        f"{place} {' '.join((server.folder / 'other.pub').read_text('utf-8').split()[:2])}\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match=r"Host key verification failed.*connect with ssh once"):
        bench_on_device(bundles["onnx"], server.device)
    known.write_text(f"{place} {right}", encoding="utf-8")
    (server.folder / "config").write_text(
        (server.folder / "config").read_text(encoding="utf-8").replace("/user\n", "/other\n"), encoding="utf-8"
    )
    with pytest.raises(InputError, match=r"Permission denied.*ssh-copy-id"):
        bench_on_device(bundles["onnx"], server.device)
    assert other.exists() and not server.leftovers()


@needs_sshd
def test_a_run_that_takes_too_long_is_stopped_there(bundles, server):
    with pytest.raises(EdgeVLError, match="did not finish within 3 s"):
        bench_on_device(bundles["onnx"], server.device, preset="normal", timeout=3)
    assert gone(server)


@needs_sshd
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_ends_there_too(bundles, server, how):
    command = [
        sys.executable,
        "-m",
        "edgevl",
        "bench",
        bundles["onnx"],
        "--device",
        server.device,
        "--preset",
        "normal",
    ]
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
        encoding="utf-8",
    )
    for _ in range(600):
        if server.leftovers() and list(server.leftovers()[0].glob("script")):
            break
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(how)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == (130 if how == signal.SIGINT else -how), said
    assert gone(server)


def heed_interrupts() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and children inherit that: so may CI."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def gone(server: Server) -> bool:
    """Nothing of ours is left on the device, neither files nor a process in them, within some seconds."""
    for _ in range(100):
        commands = [read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        if not server.leftovers() and not [line for line in commands if str(server.temporary) in line]:
            return True
        time.sleep(0.1)
    return False


def read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_bytes().decode("utf-8", "replace")
    return ""


def test_nobody_listens(bundles, capsys):
    if not shutil.which("ssh"):
        pytest.skip("no ssh client")
    assert main(["bench", str(bundles["onnx"]), "--device", f"ssh:nobody@127.0.0.1:{free_port()}"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "nobody@127.0.0.1 cannot be reached (Connection refused)" in errors[0]


def test_without_an_ssh_client(bundles, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependency, match="apt-get install openssh-client"):
        bench_on_device(bundles["onnx"], "ssh:board")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("ssh:board", "board", None), ("ssh:me@board:2222", "me@board", 2222), ("ssh:me@10.0.0.7", "me@10.0.0.7", None),
        ("ssh:me@[fe80::1%eth0]:22", "me@fe80::1%eth0", 22), ("ssh:jetson.local", "jetson.local", None),
    ],
)  # fmt: skip
def test_devices(text, host, port):
    assert Device.parse(text) == Device(host, port)


@pytest.mark.parametrize(
    "text", ["board", "ssh:", "ssh:-oProxyCommand=x", "ssh:me@-x", "ssh:a b", "ssh:board:x", "ssh:b:0", "ssh:b:99999",
             "ssh:a;b", "adb:1", "ssh:me@host:22:22"],
)  # fmt: skip
def test_what_is_no_device(text, bundles):
    with pytest.raises(InputError, match=r"is not a device|a port is"):
        bench_on_device(bundles["onnx"], text)


def test_options_that_do_not_go_together(bundles, capsys):
    for words, said in [
        ([bundles["onnx"], "--against", "region-light"], "--against"),
        ([bundles["onnx"], "--min-ratio", "3"], "--min-ratio"),
        ([], "edgevl export"),
    ]:
        assert main(["bench", *map(str, words), "--device", "ssh:board"]) == 2
        assert said in capsys.readouterr().err


def test_a_bundle_for_another_target(bundles, tmp_path):
    copy = Path(shutil.copytree(bundles["onnx"], tmp_path / "copy.edgevl"))
    text = (copy / "manifest.json").read_text(encoding="utf-8")
    (copy / "manifest.json").write_text(text.replace('"target": "onnx"', '"target": "coreml"'), encoding="utf-8")
    with pytest.raises(InputError, match="is for coreml: a device runs bundles for onnx or tensorrt"):
        bench_on_device(copy, "ssh:board")


def test_the_whole_folder_goes_along(bundles):
    """The readers of pictures lie in a folder of their own."""
    archive = io.BytesIO()
    remote._write_archive(archive, Bundle.open(bundles["onnx"]))
    archive.seek(0)
    with tarfile.open(fileobj=archive) as opened:
        names = {name for name in opened.getnames() if name.startswith("script/")}
    files = [
        *remote.SCRIPT.rglob("*.py"),
        *(remote.SCRIPT / name for name in ("bundle-1.schema.json", "bundle.schema.json")),
    ]
    assert names == {f"script/{path.relative_to(remote.SCRIPT)}" for path in files}
    assert "script/pictures/png.py" in names
