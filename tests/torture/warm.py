"""A warm process: all is imported once, and every run of the terminal is a fork of it.

No model is loaded and no tensor made in the warm process itself: a fork of a process whose numeric
libraries have started threads would hang.
"""

import gc
import importlib
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

LONGEST = 120  # seconds of one run; what takes longer hangs
STEP = 0.002  # seconds between two looks at a running child
ALONE = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
HEAVY = (
    "datasets",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.pyplot",
    "mteb",
    "plotly.graph_objects",
    "pyarrow.parquet",
    "scipy.stats",
    "skdim",
    "sklearn.covariance",
    "transformer_lens",
    "transformers.models.llama.modeling_llama",
)


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        out: its standard output.
        err: its standard error.
        seconds: how long it ran.
    """

    code: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Shot:
    """A signal for a running process.

    Attributes:
        signal: which.
        after: seconds from the start of the command.
    """

    signal: signal.Signals
    after: float


def warm_up() -> None:
    """Import whatever a command of kvlens imports."""
    os.environ.update(ALONE)
    import torch

    import kvlens

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(kvlens.__path__, "kvlens."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in HEAVY:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork that collects garbage would copy all of this


def run(
    arguments: list[str],
    folder: Path,
    environment: Mapping[str, str],
    arm: Callable[[], None] | None = None,
    shot: Shot | None = None,
) -> Ended:
    """Run one command line of kvlens in a fork.

    Args:
        arguments: of the command line.
        folder: where it runs.
        environment: what it has besides this process's.
        arm: called in the fork right before the command: what it patches, is patched there alone.
        shot: the signal that it gets.

    Returns:
        How it ended.
    """
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as spoken:
        out = Path(spoken) / "out"
        err = Path(spoken) / "err"
        listens, tells = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _prepare(folder, environment, {1: out, 2: err})
                if arm:
                    arm()
                os.write(tells, b".")
                os._exit(_exit_code(arguments))
            finally:
                os._exit(1)
        os.close(tells)
        os.read(listens, 1)
        os.close(listens)
        begin = time.monotonic()
        code = _wait(pid, begin, shot)
        return Ended(code, _text(out), _text(err), time.monotonic() - begin)


def _prepare(folder: Path, environment: Mapping[str, str], spoken: dict[int, Path]) -> None:
    """Make the fork what a new process in a shell would be."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for descriptor, path in spoken.items():
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.chdir(folder)
    os.environ.update(environment)
    tempfile.tempdir = None  # it remembers the parent's
    import datasets

    datasets.config.HF_DATASETS_CACHE = Path(environment["HF_HOME"]) / "datasets"  # and so does it


def _exit_code(arguments: list[str]) -> int:
    """Run the command as the interpreter does: a traceback on what escapes, and the exit code."""
    from kvlens.cli import main

    try:
        code = main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        if traceback.extract_tb(error.__traceback__)[-1].filename == __file__:
            _die_of(
                signal.SIGINT
            )  # it came before the first line of the command, or after its last
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _die_of(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _wait(pid: int, begin: float, shot: Shot | None) -> int:
    """Wait for a child, shoot when it is time, and give its exit code."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - begin
        if shot is not None and passed >= shot.after:
            os.kill(pid, shot.signal)
            shot = None
        if passed > LONGEST:
            os.kill(pid, signal.SIGKILL)
        time.sleep(STEP)


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    return path.read_text(encoding="utf-8", errors="backslashreplace")
