"""A bundle: the folder NAME-TARGET-PRECISION.edgevl that leaves the toolkit. Nothing in it is trusted unread."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevl.apps.jetson.bundle_files import (
    IGNORED,
    bundle_problems,
    combined_sha256,
    printable,
    sha256_file,
    walk,
)
from edgevl.atomic import atomic_folder, check_destination, remove_leftovers, write_atomically
from edgevl.bundle.manifest import MANIFEST, FileEntry, Manifest, parse_json, parse_manifest, read_text
from edgevl.bundle.specs import ArtifactSpec
from edgevl.copying import hash_file
from edgevl.errors import InputError, MissingDependency, VerificationFailed, first_line, no_such_path
from edgevl.reading import Unreadable
from edgevl.scratch import PrivateFolder

if TYPE_CHECKING:
    from edgevl.contracts import TextCodec
    from edgevl.domain.judge import Domain
    from edgevl.opened import Opened
    from edgevl.runtime.session import Session

__all__ = [
    "IGNORED", "MEASURED", "SUFFIX", "Bundle", "FileProblem", "atomic_folder", "check_destination", "is_bundle",
    "list_files", "sha256_file", "write_atomically",
]  # fmt: skip

SUFFIX = ".edgevl"
MEASURED = {"parity", "accuracy", "audit", "bench"}
README = "README.md"  # the card
MAX_LABEL = 2000  # characters, as of an answer in golden.json
_UNLISTED = "is not in the manifest"


def is_bundle(path: str | Path) -> bool:
    """Does a folder look like a bundle: by its manifest, or by its name if that is missing?"""
    return (Path(path) / MANIFEST).exists() or Path(path).name.endswith(SUFFIX)


@dataclasses.dataclass(frozen=True)
class FileProblem:
    """A file that is not what the manifest says. `what` completes the sentence "PATH ..."."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An opened bundle: its manifest is valid. The files are not yet compared.

    `checked` is what others should read and run: a private copy of the files, made while they were hashed, so that
    nobody can put another file in the place of one that was compared.
    """

    path: Path
    manifest: Manifest
    source: Path | None = None  # of a private copy: the folder that it was made from
    problems: tuple[FileProblem, ...] = ()  # of a private copy: the files that are not what the manifest says
    _held: PrivateFolder | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> "Bundle":
        """Read and validate the manifest.

        Raises:
            InputError: there is no such folder, or it is not a bundle at all.
            VerificationFailed: it is a bundle, but its manifest is missing, truncated or invalid.
        """
        folder = Path(path)
        if not os.path.lexists(folder):
            raise no_such_path("bundle", folder, "make one with edgevl export")
        if not folder.is_dir():
            raise InputError(f'"{folder}" is not a bundle: give the folder NAME{SUFFIX} that edgevl export wrote')
        file = folder / MANIFEST
        if file.is_symlink():
            raise VerificationFailed(f'"{folder}": {MANIFEST} is a link; a bundle holds plain files only')
        if not file.exists():
            error = VerificationFailed if folder.name.endswith(SUFFIX) else InputError
            raise error(f'"{folder}" holds no {MANIFEST}: it is not a whole bundle; make one with edgevl export')
        try:
            return cls(folder, parse_manifest(read_text(file)))
        except VerificationFailed as error:
            raise VerificationFailed(f'"{folder}": {error}') from None

    def file(self, relative: str) -> Path:
        """The path of a file or folder of the bundle.

        Raises `VerificationFailed` if it is missing, is or holds something other than plain files (a link would lead
        out of the bundle, a pipe would never end), or is larger than the manifest says.
        """
        path = self.path
        for part in relative.split("/"):
            path = path / part
            if path.is_symlink():
                raise VerificationFailed(f'"{relative}" of the bundle is a link; a bundle holds plain files only')
        self._explain(relative)
        if not path.exists():
            raise VerificationFailed(f'"{relative}" is missing from the bundle "{self.path.name}"; export it again')
        inside = (
            walk(str(path), relative + "/") if path.is_dir() else [(relative, "file" if path.is_file() else "other")]
        )
        for name, kind in inside:
            self._check_plain(name, kind)
        return path

    def _explain(self, relative: str) -> None:
        """Raise `VerificationFailed` if a private copy lacks a file, or one of a folder, for what is wrong with it."""
        for problem in self.problems:
            inside = problem.path == relative or problem.path.startswith(relative + "/")
            if inside and problem.what != _UNLISTED and not (self.path / problem.path).exists():
                raise VerificationFailed(f'"{problem.path}" of the bundle {problem.what}')

    def _check_plain(self, name: str, kind: str) -> None:
        if kind != "file":
            what = "a link; a bundle holds plain files only" if kind == "link" else "not a plain file"
            raise VerificationFailed(f'"{printable(name)}" of the bundle is {what}')
        entry = self.manifest.files.get(name)
        size = (self.path / name).stat().st_size
        if entry and size > entry.bytes:
            raise VerificationFailed(f'"{name}" has grown: {size:,} bytes, the manifest says {entry.bytes:,}')

    @property
    def artifact_sha256(self) -> str:
        """The digest of the artifact, from the manifest: of several files, as `combined_sha256` says."""
        return combined_sha256({name: file.sha256 for name, file in self.manifest.artifact_files().items()})

    def labels(self) -> list[str] | None:
        """The answers in the order of the scores; None for a model without."""
        spec = self.manifest.labels
        if spec is None:
            return None
        labels = parse_json(read_text(self.file(spec.file)), spec.file)
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise VerificationFailed(f"{spec.file} is not a list of texts; export the bundle again")
        if len(labels) != spec.count:
            raise VerificationFailed(f"{spec.file} holds {len(labels)} labels, the manifest says {spec.count}")
        if any(len(label) > MAX_LABEL for label in labels):
            raise VerificationFailed(f"{spec.file} holds a label of more than {MAX_LABEL} characters")
        return labels

    def texts(self) -> dict[str, "TextCodec"]:
        """The tokenizer of each text processing. Raises `VerificationFailed` for one that is not as declared."""
        from edgevl.inputs.texts import codec_of

        return {name: codec_of(spec, self.file(spec.file)) for name, spec in self.manifest.text_processing.items()}

    def domain(self) -> "Domain | None":
        """What the model was trained on, as numbers; None if the bundle does not say.

        Raises `VerificationFailed` if the file is damaged, of other weights, or of another version.
        """
        from edgevl.domain.judge import DOMAIN, MAX_BYTES, parse_domain

        if DOMAIN not in self.manifest.files:
            return None
        text = read_text(self.file(DOMAIN), MAX_BYTES)
        side = min((processing.size for processing in self.manifest.image_processing.values()), default=0)
        return parse_domain(text, self.manifest.provenance.checkpoint_sha256, side)

    def opened(self, threads: int | None = None, run: bool = True, remember: int | None = None) -> "Opened":
        """Return the model, ready to answer in the target's runtime; with `run=False` only to be looked at.

        remember: bytes of values that are kept for later queries, see `edgevl.decodings.runner.Runner`.

        Raises:
            VerificationFailed: a file is not what the manifest says, or the runtime refuses it.
            MissingDependency, CannotRunHere: see `edgevl.runtime.session.open_session`.
        """
        from edgevl.decodings.runner import REMEMBERED, Runner
        from edgevl.opened import Opened

        manifest, texts = self.manifest, self.texts()
        sessions = self.sessions(threads) if run else {}
        runner = None
        if run:
            kept = REMEMBERED if remember is None else remember
            runner = Runner(manifest.programs, sessions, manifest.image_processing, texts, remember=kept)
        model = Opened(
            name=manifest.name,
            task_name=manifest.task,
            images=manifest.image_processing,
            texts=texts,
            labels=self.labels(),
            decoding=manifest.decoding,
            programs=tuple(manifest.programs),
            runner=runner,
            domain=self.domain(),
            runtime=next((session.runtime for session in sessions.values()), manifest.target),
        )
        try:
            problems = model.problems()
        except InputError as error:
            problems = [str(error)]
        self._refuse(problems)
        return model

    def sessions(self, threads: int | None = None) -> dict[str, "Session"]:
        """Open the artifact of each program in the target's runtime. Raises as `opened` does."""
        if threads is not None and threads < 1:
            raise InputError(f"threads {threads} is not a positive number")
        sessions = {program.name: self._open(program.artifact, threads) for program in self.manifest.programs}
        for program in self.manifest.programs:
            session = sessions[program.name]
            session.public = self.public  # and with it this bundle, whose files are there as long as the session is
            self._refuse(_session_problems(program, session))
        return sessions

    @staticmethod
    def _refuse(problems: Sequence[str]) -> None:
        if problems:
            raise VerificationFailed("; ".join(problems))

    def _open(self, artifact: str, threads: int | None) -> Any:
        from edgevl.runtime.session import CannotRunHere, open_session

        path = self.file(artifact)
        try:
            return open_session(path, self.manifest.target, threads=threads)
        except (MissingDependency, VerificationFailed, CannotRunHere):
            raise
        except Exception as error:  # each runtime has its own exception for a broken file
            reason = self.public(first_line(error, 2000))[:300]
            raise VerificationFailed(f"{artifact} cannot be loaded: {reason}") from None

    def public(self, text: str) -> str:
        """A message about this bundle without the place of its private copy, which says nothing to a reader."""
        return text if self.source is None else text.replace(str(self.path), str(self.source))

    def copied(self) -> "Bundle":
        """A private copy, on disk, of every file that the manifest lists: each is read once, hashed and kept.

        `problems` has what is wrong with the folder. A file that has another digest is there, to be looked at; one that
        has another size or cannot be read is not. The copy is removed when nothing refers to it any more.

        Raises `InputError` if there is no room for it.
        """
        held = PrivateFolder()
        path = held.path / (self.path.absolute().name or "bundle")
        path.mkdir()
        problems = self._compared(self._copier(path))
        for name in self.manifest.artifact_files():  # not reached where the list of files itself is wrong
            with contextlib.suppress(OSError, VerificationFailed):  # `file` follows no link, of a folder neither
                if problems and not (path / name).exists():
                    self._copier(path)(str(self.file(name)))
        (path / MANIFEST).write_text(self.manifest.to_json(), encoding="utf-8")
        return Bundle(path, self.manifest, self.path, tuple(problems), held)

    def _copier(self, copies: Path) -> Callable[[str], str]:
        """A function that hashes a file of the bundle, and keeps what it read in the folder `copies`."""

        def digest(file: str) -> str:
            name = Path(file).relative_to(self.path).as_posix()
            try:
                return hash_file(Path(file), self.manifest.files[name].bytes, copies / name)
            except Unreadable as problem:
                (copies / name).unlink(missing_ok=True)
                raise OSError(0, str(problem)) from None

        return digest

    def checked(self) -> "Bundle":
        """A private copy in which every file is what the manifest says. See `copied`.

        Raises `VerificationFailed` naming the first file that is not, and `InputError` if there is no room.
        """
        copy = self.copied()
        self._require(copy.problems)
        return copy

    def check_digests(self) -> list[FileProblem]:
        """Compare every file with the manifest, and the list of files with what a bundle may hold.

        Returns the changed, truncated, missing, unexpected and linked ones, and those that have no part in a bundle.
        What is opened by its path afterwards may be another file: see `checked`.
        """
        return self._compared(None)

    def _compared(self, digest: Callable[[str], str] | None) -> list[FileProblem]:
        problems = bundle_problems(str(self.path), self.manifest.model_dump(mode="json", by_alias=True), digest)
        return [FileProblem(name, what) for name, what in problems]

    def record(self, **sections: Any) -> "Bundle":
        """Write measured sections (`parity`, `accuracy`, `audit`, `bench`) into manifest.json and the card.

        Wherever it is interrupted, the bundle is valid: the manifest is replaced by one that does not list the card,
        then the card, then the manifest by one that does.

        Returns the bundle with the new manifest. Raises `InputError` or `OSError` if the folder cannot be written to.
        """
        from edgevl.bundle.card import render_card

        unknown = sections.keys() - MEASURED
        assert not unknown, f"not a measured section: {unknown}"
        manifest = self.manifest.updated(**sections)
        remove_leftovers(self.path, (MANIFEST, README))
        if README in manifest.files or (self.path / README).is_file():
            others = {name: entry for name, entry in manifest.files.items() if name != README}
            unlisted = manifest.model_copy(update={"files": others})
            write_atomically(self.path / MANIFEST, unlisted.to_json())
            data = render_card(unlisted).encode("utf-8")
            write_atomically(self.path / README, data.decode("utf-8"))
            entry = FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            manifest = unlisted.model_copy(update={"files": {**others, README: entry}})
        write_atomically(self.path / MANIFEST, manifest.to_json())
        return Bundle(self.path, manifest)

    def require_intact(self) -> None:
        """Raises `VerificationFailed` naming the first file that is not what the manifest says."""
        self._require(self.check_digests())

    def _require(self, problems: Sequence[FileProblem]) -> None:
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise VerificationFailed(f'"{self.path}": {problems[0]}{more}; export the bundle again')


def _session_problems(program: ArtifactSpec, session: "Session") -> list[str]:
    """Say where the opened artifact of a program is not what the manifest says, by its runtime."""
    opened = {spec.name: (spec.dtype, tuple(spec.shape)) for spec in (*session.inputs, *session.outputs)}
    problems = []
    for spec in (*program.inputs, *program.outputs):
        wanted = (spec.dtype, spec.shape)
        if getattr(spec, "kind", "tensor") == "image":  # a session takes a platform's picture as uint8 pixels too
            batch, _, height, width = spec.shape
            wanted = ("uint8", (batch, height, width, 3))
        dtype, shape = opened.get(spec.name, ("missing", ()))
        if (dtype, shape) != wanted:
            problems.append(f"{program.artifact}: {spec.name} is {dtype} {list(shape)}, the manifest says {spec}")
    return problems


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Digest and size of every file under `folder` but the manifest, by relative path with slashes."""
    return {
        name: FileEntry(sha256=sha256_file(folder / name), bytes=(folder / name).stat().st_size)
        for name, kind in walk(str(folder))
        if kind == "file" and name != MANIFEST
    }
