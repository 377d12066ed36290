"""The disk of one worker: a small file system of its own where we may mount one.

Where we may not (no root, or a container without the right), a full disk is a limit on the size of
the files that the worker may write (RLIMIT_FSIZE): its writes fail as well, with EFBIG for ENOSPC.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
from pathlib import Path

import psutil

SIZE = 96 << 20


class Disk:
    """A folder that can be full.

    Attributes:
        folder: where the worker keeps its state.
        mounted: whether it is a file system of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "firstseen-chaos", str(folder)]
        self.mounted = (
            shutil.which("mount") is not None
            and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        )
        self._ballast = folder / "ballast"

    def fill(self, worker: psutil.Process | None) -> None:
        """Leave no room, for the worker that runs at least."""
        if self.mounted:
            self._take_all()
        elif worker is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.rlimit(psutil.RLIMIT_FSIZE, (0, -1))

    def free(self, worker: psutil.Process | None) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)
        if not self.mounted and worker is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.rlimit(psutil.RLIMIT_FSIZE, (-1, -1))

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def _take_all(self) -> None:
        block = bytes(1 << 16)
        try:
            with self._ballast.open("ab", buffering=0) as ballast:
                while ballast.write(block) == len(block):
                    pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
