"""Where the pictures of a table lie: names as people and systems write them, to files.

A name may be relative or absolute, of Windows (`photos\\a.jpg`, `C:\\Users\\me\\photos\\a.jpg`), in another case, or
with its accents composed otherwise than in the folder (macOS parts them). A relative one never leads out of the folder.
"""

import os
import re
import unicodedata
from functools import cache
from pathlib import Path, PurePosixPath

from edgevl.errors import InputError
from edgevl.limits import shown

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Places:
    """The files in one folder by the names that tables have for them. Raises `InputError` for no folder."""

    def __init__(self, root: Path):
        if not root.is_dir():
            raise InputError(f"{root} is not a folder: name the one that the pictures lie in with --images")
        self.root = root
        self._inside = root.resolve()
        self._names = cache(_names_in)

    def find(self, name: str) -> Path | None:
        """Return the file of a name, or None where there is none.

        Raises `InputError` for a web address, and for a relative name that leads out of the folder.
        """
        if _ADDRESS.match(name):
            raise InputError(f"{shown(name)} is a web address: download the picture and name its file")
        if _DRIVE.match(name) and os.name != "nt":
            return self._end_of(name)
        if Path(name).is_absolute():
            return Path(name) if Path(name).is_file() else None
        return self._relative(name)

    def _relative(self, name: str) -> Path | None:
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
            parts = [part for part in PurePosixPath(spelled).parts if part != "."]
            if ".." in parts:
                raise InputError(f"{shown(name)} leads out of the folder {self.root}: name it from its root (/…)")
            if found := self._walk(parts):
                if not found.resolve().is_relative_to(self._inside):
                    raise InputError(f"{shown(name)} is a link out of {self.root}: name the picture from its root (/…)")
                return found
        return None

    def _end_of(self, name: str) -> Path | None:
        """The file whose path under the folder is the longest end of a Windows path of another machine."""
        parts = re.split(r"[\\/]+", name)[1:]
        if ".." in parts:
            raise InputError(f"{shown(name)} leads out of its folder: write it without ..")
        ends = (self._walk(parts[start:]) for start in range(len(parts)))
        return next((path for path in ends if path and path.resolve().is_relative_to(self._inside)), None)

    def _walk(self, parts: list[str]) -> Path | None:
        """Follow names, each as it stands, or as the only one that differs in nothing but accents or case."""
        path = self.root
        for part in parts:
            if not part or "\0" in part or len(os.fsencode(part)) > 255:
                return None
            exact = path / part
            if not os.path.lexists(exact):
                near = self._names(path).get(_plain(part), [])
                if len(near) != 1:
                    return None
                exact = path / near[0]
            path = exact
        return path if path.is_file() else None


def _names_in(folder: Path) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    try:
        for name in sorted(os.listdir(folder)):
            names.setdefault(_plain(name), []).append(name)
    except OSError:  # a file, or a folder that cannot be listed
        pass
    return names


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
