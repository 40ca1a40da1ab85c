"""Folders in an object store, `gs://`: what is done there as on a disk, or in its place.

A store puts an object whole or not at all, which is all that it has in common with a disk: nothing
is renamed or appended to, nothing can be locked, and a folder is no more than what names begin
with. Shards, checkpoints and a run's small files get along with that; nothing else is written
there.
"""

import contextlib
import functools
import io
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from clef_jax.errors import ClefError

_GOOGLE = "gs://"
# `pathlib` makes one slash of two. Two letters at least, as Windows has drives of one.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# Google takes one write a second of an object, and asks for the next to wait.
_PUT_EVERY_S = 10


class StoreError(ClefError):
    """A store that does not do as asked, or cannot; the message says what to do instead."""


def is_stored(path: str | os.PathLike) -> bool:
    """Tells whether a path is a URL, and so of no disk of this machine."""
    return _URL.match(os.fspath(path)) is not None


def require_local(path: str | os.PathLike) -> None:
    """Raises StoreError for a URL, which would be taken for a folder called `gs:`."""
    if is_stored(path):
        raise StoreError(
            f"{os.fspath(path)}: is in a store, where this cannot be written; write to a disk of "
            "this machine and copy it by the store's own tool: gcloud storage cp --recursive "
            f"FOLDER {os.fspath(path)}"
        )


def at(name: str | os.PathLike) -> pathlib.Path:
    """Returns a path by its name, on a disk of this machine or in a store.

    Raises:
        StoreError: It is in a store that cannot be used, or does not answer.
    """
    if not is_stored(name):
        return pathlib.Path(name)
    name = os.fspath(name)
    if not name.startswith(_GOOGLE):
        raise StoreError(
            f"{name}: Orbax and ArrayRecord know no such store, of all only Google's, and that by "
            "gs:// in a text; give a folder that every host has mounted, or a copy"
        )
    bucket = name.removeprefix(_GOOGLE).split("/")[0]
    if not bucket:
        raise StoreError(f"{name}: names no bucket; expected gs://BUCKET/FOLDER")
    return _bucket(bucket).joinpath(name.removeprefix(_GOOGLE + bucket).strip("/"))


def absolute(name: str | os.PathLike) -> pathlib.Path:
    """Returns `at`, of a disk absolute and without links."""
    path = at(name)
    return path if is_stored(path) else path.resolve()


@functools.cache
def _bucket(name: str) -> Any:
    """Returns a bucket that has answered once."""
    # Imported here because it takes longer than reading processes take to start.
    from etils import epath

    place = f"{_GOOGLE}{name}"
    try:
        import fsspec.config
        import gcsfs  # noqa: F401
    except ImportError:
        raise StoreError(f"{place}: needs the extra gcs: pip install 'clef-jax[gcs]'") from None
    # Others write there at the same time, such as TensorStore, and a listing of before misses that.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    bucket = epath.Path(place)
    with reaching(place):
        bucket.joinpath("any").exists()
    return bucket


@contextlib.contextmanager
def reaching(path: str | os.PathLike) -> Iterator[None]:
    """Turns what a store's client raises into a `StoreError`, but that there is no such object.

    Of a path on a disk errors stay what they are.
    """
    try:
        yield
    except (ClefError, FileNotFoundError):
        raise
    except Exception as error:  # Of the client's, of the credentials', of the network's libraries.
        if not is_stored(path):
            raise
        reason = str(error).split("\n")[0][:200]
        raise StoreError(
            f"{os.fspath(path)}: the store does not do as asked ({type(error).__name__}: {reason});"
            " see to the bucket's name, to what this account may do there, and to the network"
        ) from error


@contextlib.contextmanager
def putting(path: str | os.PathLike) -> Iterator[str]:
    """Gives a name for a file of this machine, which is put in the store after the block.

    Raises:
        StoreError: The store does not take it.
    """
    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, "object")
        yield temporary
        put(path, pathlib.Path(temporary).read_bytes())


def put(path: str | os.PathLike, content: bytes) -> None:
    """Writes an object, whole or not at all.

    Raises:
        StoreError: The store does not take it.
    """
    try:
        with reaching(path):
            at(path).write_bytes(content)
    except FileNotFoundError:
        raise StoreError(f"{os.fspath(path)}: there is no such bucket; make it first") from None


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns the content of a file or an object."""
    with reaching(path):
        return at(path).read_bytes()


def for_arrow(path: str | os.PathLike) -> str | BinaryIO:
    """Returns what Arrow reads a file from: its name, or an object's content."""
    if not is_stored(path):
        return os.fspath(path)
    return io.BytesIO(read_bytes(path))


def size(path: str | os.PathLike) -> int | None:
    """Returns the bytes of a file or object; None where there is none."""
    if not is_stored(path):
        return os.path.getsize(path) if os.path.isfile(path) else None
    try:
        with reaching(path):
            found: Any = at(path).stat()
    except FileNotFoundError:
        return None
    return None if found.is_directory else found.length


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files in a folder and its folders."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def remove_folder(folder: pathlib.Path) -> None:
    """Removes a folder, which may be absent, and whatever is in it."""
    if not is_stored(folder):
        return shutil.rmtree(folder, ignore_errors=True)
    stored: Any = folder
    with reaching(folder):
        stored.rmtree(missing_ok=True)


class GrowingText:
    """A text in a store that lines are added to: put anew from time to time, and at `flush`.

    Args:
        path: The object.
        text: What it begins with; it is put at once.
        require_ours: Called before each put; raises where another writes to it now.
    """

    def __init__(self, path: pathlib.Path, text: str, require_ours: Callable[[], None]):
        self._path, self._text, self._require_ours = path, text, require_ours
        self._waits = True
        self.flush()

    def write(self, text: str) -> None:
        """Adds to the text."""
        self._text += text
        self._waits = True
        if time.monotonic() > self._due:
            self.flush()

    def flush(self) -> None:
        """Puts what was added."""
        self._require_ours()
        if self._waits:
            put(self._path, self._text.encode())
            self._waits, self._due = False, time.monotonic() + _PUT_EVERY_S

    def close(self) -> None:
        """Puts what was added last."""
        self.flush()
