"""Ray session: the cluster that is there, or a small one on this machine for as long as it is used.

Ray is told nothing of ours but resources, and kept quiet: errors come back as exceptions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from kvlens.engines.pool import HELPERS, Pool
from kvlens.store.errors import InputError

OBJECT_STORE = 256 * 2**20  # bytes: chunks on their way, which wait when it is full
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it would report over the network
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def import_ray() -> ModuleType:
    """The module; raises InputError where the extra is not installed."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("`engine='ray'` needs Ray: pip install 'kvlens[ray]'") from error
    return ray


@contextlib.contextmanager
def ray_session(pool: Pool) -> Iterator[ModuleType]:
    """Ray, connected.

    Args:
        pool: what is going to run.

    Yields:
        The module. A session that was there stays; otherwise the cluster at ``RAY_ADDRESS`` is
        joined and left, or one is started on this machine and ended.

    Raises:
        InputError: where Ray is not installed, or no session can be had.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    folder = tempfile.mkdtemp(prefix="kvlens-ray-")
    try:
        with _refused(), _without_stderr():
            ray.init(**_options(pool, folder))
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Within it, nobody sees what threads of Ray print: standard output is for one answer."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _options(pool: Pool, folder: str) -> dict[str, Any]:
    """The keywords of `ray.init`."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if os.environ.get("RAY_ADDRESS"):
        return quiet
    cores = os.cpu_count() or 1
    wanted = (pool.actors or 1) * (pool.cpus or 1)
    return quiet | {
        "num_cpus": max(cores, wanted) + HELPERS,  # these are only counted: they do little
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
        "_temp_dir": folder,
    }


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Within it, what C++ writes to standard error is not seen: that it is quiet, for one."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Ray's own errors share no base
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"Ray cannot be started here: {line}") from error
