"""A process and those that it started: how much memory they hold, how they end, and what the machine has."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_LINUX = sys.platform == "linux"
_FORKED = 0x40  # PF_FORKNOEXEC
_WRITTEN = ("RssAnon:", "VmSwap:")  # files that are mapped are not copied by a fork
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def run_module(module: str, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that runs a module of ours in a fresh interpreter, and its environment.

    -P: without it whatever lies in the current folder would be imported first. What this process can import, the other
    one can.
    """
    path = os.pathsep.join(filter(None, sys.path))
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": path}


def die_with_parent(parent: int) -> None:
    """End this process when `parent`, who started it, ends, however that happens. Linux only; elsewhere nothing."""
    if _LINUX and _control(_DIES_WITH_PARENT, signal.SIGKILL) and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it has ended already


def _control(option: int, value: int) -> bool:
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0
    except (ImportError, OSError, AttributeError):
        return False


def limit_memory(limit: int) -> None:
    """Refuse this process, and those that it starts, to reserve far more than `limit` bytes at once.

    Of memory that is written to, so neither files that are mapped nor what a GPU's driver reserves counts. It leaves
    room: the true limit is what is resident, which a watcher measures some twenty times a second. This one is for a
    single allocation that would take the machine before the watcher looks again.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = 2 * limit + 8 * 2**30
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started, and those that they did."""
    if not _LINUX:
        import psutil

        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return []
    found, waiting = list[int](), [pid]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def marked(word: str) -> list[int]:
    """The processes with `word` in the environment that they were started with: orphans, too. Linux only."""
    found = []
    for folder in Path("/proc").glob("[0-9]*") if _LINUX else ():
        with contextlib.suppress(OSError):  # it has ended, or belongs to somebody else
            if word.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def _children(pid: int) -> list[int]:
    """A list for each thread, in a file of /proc that a kernel may be built without: then nobody is found."""
    children = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            children += [
                int(word) for word in Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="utf-8").split()
            ]
    return children


def resident(pid: int, descendants: Iterable[int] = ()) -> int:
    """Bytes that a process, and those it started, hold in memory or have had swapped out. One that ended holds nothing.

    A descendant that was forked, and runs no program of its own yet, shares its parent's pages: only what it has
    written beyond them counts, or every start of a program would count the whole parent twice for a moment.
    """
    return _resident(pid) + sum(map(_own, descendants))


def _own(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        if int(fields[6]) & _FORKED:
            return max(0, _resident(pid, _WRITTEN) - _resident(int(fields[1]), _WRITTEN))
    return _resident(pid)


def _resident(pid: int, fields: tuple[str, ...] = ("VmRSS:", "VmSwap:")) -> int:
    if not _LINUX:
        import psutil

        with contextlib.suppress(psutil.Error):
            return psutil.Process(pid).memory_info().rss
        return 0
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(fields))
    return 0


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def available_memory() -> int:
    """Bytes that processes may take before the machine, or the container around them, has no more."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        machine = 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
        return min([machine, *_left_in_container()])
    import psutil

    return psutil.virtual_memory().available


def _left_in_container(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    left = []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            left.append(
                max(0, int((root / limit).read_text(encoding="utf-8")) - int((root / used).read_text(encoding="utf-8")))
            )
    return left
