"""A small disk that fills up, or is read-only: a file system of its own in memory."""

import contextlib
import os
import subprocess

import pytest

_SIZE = 96 << 20


class Disk:
    """A mounted file system of 96 MB.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path):
        self.path = path
        self._filler = path / "filler"

    def used(self):
        """Returns the bytes taken, the filler not included."""
        found = os.statvfs(self.path)
        filler = self._filler.stat().st_blocks * 512 if self._filler.exists() else 0
        return (found.f_blocks - found.f_bfree) * found.f_frsize - filler

    def fill(self, leaving):
        """Takes all room but so many bytes."""
        with open(self._filler, "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, _SIZE - self.used() - leaving)

    def make_room(self):
        self._filler.unlink(missing_ok=True)

    @contextlib.contextmanager
    def read_only(self):
        self._mount("remount,ro")
        try:
            yield
        finally:
            self._mount("remount,rw")

    def mount(self):
        self.path.mkdir()
        self._mount(f"size={_SIZE}")

    def unmount(self):
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def _mount(self, options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    found = Disk(tmp_path / "disk")
    try:
        found.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system of its own can be mounted here ({error})")
    yield found
    found.unmount()
