"""A bundle: the folder NAME-TARGET-PRECISION.edgevl that leaves the toolkit. Reading it, and writing it atomically."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.manifest import MANIFEST, FileEntry, Manifest, parse_json, parse_manifest, read_text

SUFFIX = ".edgevl"
MEASURED = {"parity", "accuracy", "audit", "bench"}
IGNORED = {".DS_Store"}  # macOS puts it into every folder that is looked at
_STALE_SECONDS = 24 * 3600
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclasses.dataclass(frozen=True)
class FileProblem:
    """A file that is not what the manifest says. `what` completes the sentence "PATH ..."."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An opened bundle: its manifest is valid. The files are not yet compared: `check_digests` does that."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path) -> "Bundle":
        """Read and validate the manifest.

        Raises:
            InputError: there is no such folder, or it is not a bundle at all.
            VerificationFailed: it is a bundle, but its manifest is missing, truncated or invalid.
        """
        folder = Path(path)
        if not os.path.lexists(folder):
            raise InputError(f'there is no bundle "{folder}": make one with edgevl export')
        if not folder.is_dir():
            raise InputError(f'"{folder}" is not a bundle: give the folder NAME{SUFFIX} that edgevl export wrote')
        file = folder / MANIFEST
        if file.is_symlink():
            raise VerificationFailed(f'"{folder}": {MANIFEST} is a link; a bundle holds plain files only')
        if not file.exists():
            error = VerificationFailed if folder.name.endswith(SUFFIX) else InputError
            raise error(f'"{folder}" holds no {MANIFEST}: it is not a whole bundle; make one with edgevl export')
        return cls(folder, parse_manifest(read_text(file)))

    def file(self, relative: str) -> Path:
        """The path of a file of the bundle. Raises `VerificationFailed` if it is missing or leaves through a link."""
        path = self.path
        for part in relative.split("/"):
            path = path / part
            if path.is_symlink():
                raise VerificationFailed(f'"{relative}" of the bundle is a link; a bundle holds plain files only')
        if not path.exists():
            raise VerificationFailed(f'"{relative}" is missing from the bundle "{self.path.name}"; export it again')
        return path

    @property
    def artifact(self) -> Path:
        return self.file(self.manifest.artifact)

    def labels(self) -> list[str]:
        """The answers in the order of the logits."""
        spec = self.manifest.labels
        labels = parse_json(read_text(self.file(spec.file)), spec.file)
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise VerificationFailed(f"{spec.file} is not a list of texts; export the bundle again")
        if len(labels) != spec.count:
            raise VerificationFailed(f"{spec.file} holds {len(labels)} labels, the manifest says {spec.count}")
        return labels

    def tokenizer(self) -> Any:
        """The `edgevl.tokenizer.Tokenizer` of the bundle."""
        from edgevl.tokenizer import Tokenizer

        spec = self.manifest.tokenizer
        read_text(self.file(spec.file))
        try:
            return Tokenizer.from_file(self.file(spec.file))
        except Exception as error:
            raise VerificationFailed(f"{spec.file} cannot be read as a tokenizer ({_first_line(error)})") from None

    def session(self, threads: int | None = None) -> Any:
        """Open the artifact, or both of a split bundle, in the target's runtime.

        Raises:
            VerificationFailed: the runtime refuses the file.
            MissingDependency, CannotRunHere: see `edgevl.runtime.session.open_session`.
        """
        from edgevl.runtime.split_session import SplitSession

        if threads is not None and threads < 1:
            raise InputError(f"threads {threads} is not a positive number")
        opened = [self._open(name, threads) for name, _, _ in self.manifest.each_program()]
        return opened[0] if len(opened) == 1 else SplitSession(*opened)

    def _open(self, artifact: str, threads: int | None) -> Any:
        from edgevl.runtime.session import CannotRunHere, open_session

        path = self.file(artifact)
        try:
            return open_session(path, self.manifest.target, threads=threads)
        except (MissingDependency, VerificationFailed, CannotRunHere):
            raise
        except Exception as error:  # each runtime has its own exception for a broken file
            raise VerificationFailed(f"{artifact} cannot be loaded: {_first_line(error)}") from None

    def check_digests(self) -> list[FileProblem]:
        """Compare every file with the manifest. Returns the changed, truncated, missing, unexpected and linked ones."""
        found = dict(_walk(self.path))
        found.pop(MANIFEST, None)
        problems = [_compare(self.path, name, entry, found.get(name)) for name, entry in self.manifest.files.items()]
        for name, kind in found.items():
            if name not in self.manifest.files:
                problems.append(FileProblem(name, "is a link" if kind == "link" else "is not in the manifest"))
        return sorted((problem for problem in problems if problem), key=lambda problem: problem.path)

    def record(self, **sections: Any) -> "Bundle":
        """Write measured sections (`parity`, `accuracy`, `audit`, `bench`) into manifest.json and the card.

        Returns the bundle with the new manifest. Raises `InputError` or `OSError` if the folder cannot be written to.
        """
        from edgevl.card import README, render_card

        values = self.manifest.model_dump()
        unknown = sections.keys() - MEASURED
        assert not unknown, f"not a measured section: {unknown}"
        values.update({name: getattr(part, "model_dump", lambda part=part: part)() for name, part in sections.items()})
        manifest = Manifest.model_validate(values)
        if README in manifest.files:
            write_atomically(self.path / README, render_card(manifest))
            data = (self.path / README).read_bytes()
            entry = FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            manifest = manifest.model_copy(update={"files": {**manifest.files, README: entry}})
        write_atomically(self.path / MANIFEST, manifest.to_json())
        return Bundle(self.path, manifest)

    def require_intact(self) -> None:
        """Raises `VerificationFailed` naming the first file that is not what the manifest says."""
        problems = self.check_digests()
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise VerificationFailed(f'"{self.path}": {problems[0]}{more}; export the bundle again')


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (relative path, "file" or "link" or "other"); links are not followed."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = prefix + entry.name
            if entry.is_symlink():
                yield name, "link"
            elif entry.is_dir():
                yield from _walk(folder / entry.name, name + "/")
            elif entry.name not in IGNORED:
                yield name, "file" if entry.is_file() else "other"


def _compare(folder: Path, name: str, entry: FileEntry, kind: str | None) -> FileProblem | None:
    if kind is None:
        return FileProblem(name, "is missing")
    if kind != "file":
        return FileProblem(name, "is a link" if kind == "link" else "is not a plain file")
    try:
        size = (folder / name).stat().st_size
        if size != entry.bytes:
            verb = "is truncated" if size < entry.bytes else "has grown"
            return FileProblem(name, f"{verb}: {size:,} bytes, the manifest says {entry.bytes:,}")
        if sha256_file(folder / name) != entry.sha256:
            return FileProblem(name, "has changed: its sha256 is not the one in the manifest")
    except OSError as error:
        return FileProblem(name, f"cannot be read ({error.strerror})")
    return None


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Digest and size of every file under `folder` but the manifest, by relative path with slashes."""
    return {
        name: FileEntry(sha256=sha256_file(folder / name), bytes=(folder / name).stat().st_size)
        for name, kind in _walk(folder)
        if kind == "file" and name != MANIFEST
    }


@contextlib.contextmanager
def atomic_folder(destination: Path, force: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling to fill; on success it becomes `destination` in one rename, else it is removed.

    With `force` an existing bundle is moved aside first and deleted only after the new one is in place. If the
    process is killed between the two renames, the old bundle survives as the sibling `.NAME.old-PID-RANDOM`.

    Raises:
        InputError: the destination exists (and not `force`) or is not a bundle, cannot be written, or the disk is full.
    """
    check_destination(destination, force)
    parent, mark = destination.parent, f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = parent / f".{destination.name}.tmp-{mark}"
    try:
        _make(temporary)
        _remove_stale(parent, destination.name)
        yield temporary
        _fsync_tree(temporary)
        check_destination(destination, force)
        _replace(temporary, destination, parent / f".{destination.name}.old-{mark}")
    except Exception as error:
        explained = _explain(error, parent)
        shutil.rmtree(temporary, ignore_errors=True)
        if explained is error:
            raise
        raise explained from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # KeyboardInterrupt and SystemExit too


def _make(temporary: Path) -> None:
    parent = temporary.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        explained = _explain(error, parent)
        if isinstance(explained, EdgeVLError):
            raise explained from None
        raise InputError(f'"{parent}" cannot be used ({error.strerror}): choose another path with --out') from None


def check_destination(destination: Path, force: bool) -> None:
    """Raise `InputError` if a bundle cannot be put at `destination`. With `force` only a bundle is ever replaced."""
    if not os.path.lexists(destination):
        return
    if destination.is_symlink() or not destination.is_dir():
        raise InputError(f'"{destination}" exists and is not a bundle: choose another path with --out')
    if not (destination / MANIFEST).exists() and any(destination.iterdir()):
        raise InputError(
            f'"{destination}" is a folder that is not a bundle: name the bundle itself, --out FOLDER/NAME{SUFFIX}'
        )
    if not force:
        raise InputError(f'"{destination}" exists: add --force to replace it, or choose another path with --out')


def write_atomically(path: Path, text: str) -> None:
    """Replace one text file so that a reader sees the old or the new content, never a part."""
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _explain(error, path.parent) from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk answers EROFS even for a file that is not there
            temporary.unlink()


def _replace(temporary: Path, destination: Path, aside: Path) -> None:
    if not os.path.lexists(destination):
        temporary.rename(destination)
    else:
        destination.rename(aside)
        try:
            temporary.rename(destination)
        except BaseException:
            aside.rename(destination)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    _fsync(destination.parent)


def _remove_stale(parent: Path, name: str) -> None:
    """Remove what killed runs left behind for this destination, a day old or more (a younger one may be at work)."""
    for leftover in parent.glob(f".{name}.tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)


def _fsync_tree(folder: Path) -> None:
    for name, _ in _walk(folder):
        _fsync(folder / name)
    for directory, _, _ in os.walk(folder):
        _fsync(Path(directory))


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: Exception, parent: Path) -> Exception:
    """The error to raise: one line for a full disk or a folder that cannot be written, else `error` itself."""
    if isinstance(error, EdgeVLError):
        cause = error.__cause__
        if error.exit_code != 1 or not isinstance(cause, OSError):
            return error
        explained = _explain(cause, parent)  # an exporter wrapped it as an unexpected failure
        return error if explained is cause else explained
    number = error.errno if isinstance(error, OSError) and _concerns(error, parent) else None
    # Exporters written in C++ report a full disk as a RuntimeError without its errno.
    if number in _NO_SPACE or _is_full(parent):
        return InputError(f'no space left to write in "{parent}": free some, or choose another path with --out')
    if number in _NO_PERMISSION:
        return InputError(f'"{parent}" cannot be written to: choose another path with --out')
    return error


def _concerns(error: OSError, parent: Path) -> bool:
    """False for an error about a file elsewhere, say an unreadable checkpoint."""
    if not isinstance(error.filename, str):
        return True
    named, parent = Path(error.filename).absolute(), parent.absolute()
    return named.is_relative_to(parent) or parent.is_relative_to(named)


def _is_full(parent: Path) -> bool:
    try:
        usage = shutil.disk_usage(parent)
        return usage.total > 0 and usage.free < 64 * 1024  # /proc and its like have a total of 0
    except OSError:
        return False
