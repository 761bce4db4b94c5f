"""From an exception to (exit code, one line). Exit codes are those of `edgevl.errors`."""

import errno
import importlib.metadata
import os

import typer

from edgevl.errors import EdgeVLError, first_line, is_out_of_memory

# The usage errors of the parser under typer, whichever it is (click, or the copy inside newer typer).
UsageError = typer.BadParameter.__bases__[0]

# OS errors that say something about the place that the user named, not about the program.
USER_ERRNOS = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOSPC,
    errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOTEMPTY,
}  # fmt: skip
ADVICE = {
    errno.ENOSPC: "; free some space or choose another folder with --out",
    errno.EDQUOT: "; free some space or choose another folder with --out",
    errno.EFBIG: "; the file size limit is too small, choose another folder with --out",
    errno.EROFS: "; choose a folder that can be written to with --out",
    errno.EACCES: "; choose a path that you may use",
    errno.EPERM: "; choose a path that you may use",
}


class Interrupted(EdgeVLError):
    """Ctrl-C, caught inside a command: the parser above would turn it into an exit without a word."""

    exit_code = 130  # what shells report for SIGINT


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the line to print ("" for none). Programming errors get 1 and name `--debug`."""
    if isinstance(error, typer.Exit):
        return error.exit_code, ""
    if isinstance(error, SystemExit):
        return (error.code if isinstance(error.code, int) else 1), ""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Interrupted.exit_code, "interrupted"
    if isinstance(error, UsageError):
        return 2, _usage(error) if str(error) else ""  # "" after the help that a bare command shows
    if isinstance(error, EdgeVLError):
        return error.exit_code, str(error)
    if isinstance(error, BrokenPipeError):
        return 1, ""
    if isinstance(error, ModuleNotFoundError):
        return 3, _missing_module(error)
    if isinstance(error, OSError) and error.errno in USER_ERRNOS:
        return 2, _os_error(error)
    if is_out_of_memory(error):
        return 2, f"this machine has too little memory for it ({first_line(error, 200)}): ask for less at a time"
    if isinstance(error, RecursionError):
        return 1, "something is nested too deeply (RecursionError, unexpected; run with --debug for the traceback)"
    return 1, f"{type(error).__name__}: {error} (unexpected; run with --debug for the traceback)"


def _usage(error: BaseException) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "edgevl"
    return f"{message.rstrip('.')}; see {where} --help"


def _os_error(error: OSError) -> str:
    number = error.errno or 0
    subject = f"{error.filename}: " if error.filename else ""
    return f"{subject}{os.strerror(number).lower()}{ADVICE.get(number, '')}"


def _missing_module(error: ModuleNotFoundError) -> str:
    from edgevl.doctor import install_command

    module = (error.name or str(error)).split(".")[0]
    return f'the package "{module}" is not installed: {install_command(module)}'


def installed_version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None. Reads metadata only: nothing is imported."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
