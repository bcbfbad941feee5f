"""Narrow places: disks of a few kilobytes, files that may not grow, folders that are closed."""

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNS = 0x20000
AMPLE = 64 << 20  # bytes
CLOSED = 0o555
OPEN = 0o755


def own_mounts() -> None:
    """Let this process mount what no other one sees, and what goes when it ends; if it may."""
    libc = ctypes.CDLL(None)
    if libc.unshare(CLONE_NEWNS) == 0:
        _run("mount", "--make-rprivate", "/")


def can_mount(folder: Path) -> bool:
    """Whether a disk can be mounted on a folder."""
    if not _mounted(folder):
        return False
    unmount(folder)
    return True


def on_small_disk(folder: Path, free: int) -> Callable[[], None]:
    """Move what is in a folder onto a disk in its place, with `free` bytes left on it.

    Returns:
        What makes the disk ample.
    """
    _onto_a_disk(folder)
    used = shutil.disk_usage(folder).used
    _remount(folder, f"size={used + free}")
    return lambda: _remount(folder, f"size={AMPLE}")


def closed(folder: Path, disk: bool) -> Callable[[], None]:
    """Have a folder that can only be read; root needs a disk for that.

    Returns:
        What opens it.
    """
    if not disk:
        folder.chmod(CLOSED)
        return lambda: folder.chmod(OPEN)
    _onto_a_disk(folder)
    _remount(folder, "ro")
    return lambda: _remount(folder, "rw")


def replaced_by_a_file(folder: Path) -> Callable[[], None]:
    """Put a file in the place of a folder.

    Returns:
        What puts the folder back.
    """
    away = _away(folder)
    folder.rename(away)
    folder.write_text("no folder")

    def back() -> None:
        folder.unlink()
        away.rename(folder)

    return back


def no_file_above(size: int) -> Callable[[], None]:
    """What keeps the process that calls it from writing more than `size` bytes into a file."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def unmount(folder: Path) -> None:
    """Take a disk away."""
    subprocess.run(["umount", str(folder)], check=True)


def _onto_a_disk(folder: Path) -> None:
    away = _away(folder)
    folder.rename(away)
    folder.mkdir()
    assert _mounted(folder)
    shutil.copytree(away, folder, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(away)


def _away(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-away")


def _mounted(folder: Path) -> bool:
    options = f"size={AMPLE},mode=755"
    return os.geteuid() == 0 and _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))


def _remount(folder: Path, option: str) -> None:
    assert _run("mount", "-o", f"remount,{option}", str(folder))


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
