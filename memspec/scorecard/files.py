"""Writing results: in one step, through links, and to nothing but regular files."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from memspec.errors import RecordError
from memspec.failure import encodable


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, in one step: a reader, or a crash, sees the old file or the new one, never half of it.

    A symbolic link stays one; the file that it points to is replaced. A replaced file keeps its permissions.

    Raises:
        RecordError: if it cannot be written; says why, and leaves what was there.
    """
    target = writable(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(encodable(content).encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _permissions(target))
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise RecordError(f"{path} could not be written: {error.strerror or error}") from error
    except BaseException:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise


def writable(path: Path) -> Path:
    """Where a result named ``path`` will lie, after links are followed.

    Raises:
        RecordError: if a regular file cannot be there: it is a folder or a device, or its folder cannot be written to.
    """
    try:
        target = Path(path).resolve()
        kind = os.stat(target).st_mode if target.exists() else None
    except (OSError, RuntimeError) as error:  # a loop of links
        raise RecordError(f"{path} cannot be written: {error}") from error
    if kind is not None and not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "not a regular file"
        raise RecordError(f"{path} is {what}; name a file that may be written, such as card.json")
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir():
        raise RecordError(f"{path} cannot be written: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RecordError(f"{path} cannot be written: no permission to write in {folder}")
    return target


def apart(paths: Mapping[str, Path]) -> None:
    """Hold the files that one run is to write to being different ones.

    Args:
        paths: by the options that name them.

    Raises:
        RecordError: naming two that are the same file, after links are followed.
    """
    held: dict[Path, str] = {}
    for option, path in paths.items():
        target = writable(path)
        if target in held:
            raise RecordError(f"{held[target]} and {option} name the same file, {path}; give each one of its own")
        held[target] = option


def own_file(path: Path) -> Path:
    """``path`` itself, where a file of a run's own may be kept that nobody named.

    Raises:
        RecordError: if something else lies there: a link (which would be written through), a folder or a device.
    """
    writable(path)
    if path.is_symlink():
        raise RecordError(f"{path} is a symbolic link, and is to be a file of this run's own: remove it")
    return path


def _permissions(target: Path) -> int:
    with contextlib.suppress(OSError):
        return stat.S_IMODE(os.stat(target).st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
