"""Errors of a run directory: one sentence that says what failed and how to continue."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtake.core.errors import LongtakeError, MediaError
from longtake.core.units import argument, command_line

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
OPENING = "opening the output folder"
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class RunError(LongtakeError, RuntimeError):
    """A problem with a run directory that its owner can solve; the message says how."""


def resume_command(folder: Path, *flags: str) -> str:
    """Return the command that resumes a run, quoted so that it can be pasted into a shell."""
    return f"`{command_line(['longtake', 'resume', argument(folder), *flags])}`"


def removed(folder: Path, path: Path) -> RunError:
    """Return the error of a run whose folder, or a file that it keeps open, was removed, moved or replaced meanwhile."""
    if not folder.is_dir():
        return RunError(
            f"{folder} was removed or moved while the run was writing it: what was moved can be resumed at its new place "
            "with `longtake resume`, what was removed is lost"
        )
    return RunError(
        f"{path} was removed or replaced while the run was writing it: put it back and resume the run with "
        f"{resume_command(folder)}, or start a new run in another folder"
    )


@contextmanager
def explained(folder: Path, activity: str) -> Iterator[None]:
    """Turn OSError and MediaError of the block into a RunError that names the activity and how to continue.

    folder: of the run. activity: a phrase such as "writing video.mp4".
    """
    resume = resume_command(folder)
    try:
        yield
    except MediaError as error:
        raise RunError(
            f"{activity} failed: {error}; every earlier segment is safe, resume the run with {resume}"
        ) from error
    except OSError as error:
        if error.errno in DISK_FULL and activity == OPENING:
            raise RunError(f"the disk of {folder} is full: free some space, or choose another --output") from error
        if error.errno in DISK_FULL:
            raise RunError(
                f"the disk is full ({activity}): free some space and resume the run with {resume}; "
                "every earlier segment is safe"
            ) from error
        if error.errno in FORBIDDEN:
            raise RunError(f"{folder} cannot be written ({activity}): choose another folder") from error
        if isinstance(error, FileNotFoundError) and activity != OPENING and not folder.is_dir():
            raise removed(folder, folder) from error
        raise RunError(
            f"{activity} failed ({error.strerror or error}): check that {folder} exists and can be written, "
            f"then resume the run with {resume}; every earlier segment is safe"
        ) from error
