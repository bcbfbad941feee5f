"""Streams: standard output as a shell can give it, without a traceback, and nothing lost."""

import io
import os
import subprocess
import sys

import pytest

from kvlens.cli import main
from kvlens.cli.answers import Answer
from kvlens.cli.streams import usable_streams

STRANGE = "café \x1b[31mred\x1b[0m 8 → 9"


@pytest.fixture
def answered(monkeypatch):
    """`kvlens models` with an answer that not every stream takes."""
    answer = Answer({"text": STRANGE}, STRANGE)
    monkeypatch.setattr("kvlens.models.catalog.NAMED", {})
    monkeypatch.setattr("kvlens.cli.models.Answer", lambda *ignored: answer)


def stream(descriptor, **options):
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)), **options)


def in_child(tmp_path, output, prepare=lambda: None):
    """Exit code and standard error of `kvlens models` in a fork whose descriptor 1 is `output`.

    Python makes its streams of the descriptors when it starts: so does the fork.
    """
    errors = tmp_path / "errors"
    child = os.fork()
    if child == 0:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT, 0o600), 2)
        sys.stderr = stream(2, errors="backslashreplace")
        if output is None:
            os.close(1)
            sys.stdout = None
        else:
            os.dup2(output, 1)
            encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
            sys.stdout = stream(1, encoding=encoding)
        prepare()
        code = main(["models"])
        sys.stdout.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, errors.read_text()


def opened(path, flags=os.O_RDWR | os.O_CREAT):
    return os.open(path, flags, 0o600)


def test_escape_codes_in_an_answer_are_shown(answered, capsys):
    assert main(["models"]) == 0
    assert capsys.readouterr().out == "café \\x1b[31mred\\x1b[0m 8 → 9\n"


def test_an_ascii_output_gets_its_answer(tmp_path, answered, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert in_child(tmp_path, opened(tmp_path / "out")) == (0, "")
    assert (tmp_path / "out").read_text() == "caf\\xe9 \\x1b[31mred\\x1b[0m 8 \\u2192 9\n"


def test_a_closed_output_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("kvlens.models.catalog.is_cached", lambda name: os._exit(77))
    assert in_child(tmp_path, None) == (
        2,
        "kvlens: cannot write to standard output: it is closed\n",
    )
    read_only = opened(os.devnull, os.O_RDONLY)
    code, errors = in_child(tmp_path, read_only)
    assert (code, "Bad file descriptor" in errors) == (2, True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_output_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("kvlens.models.catalog.is_cached", lambda name: os._exit(77))
    told = "kvlens: cannot write to standard output: No space left on device\n"
    assert in_child(tmp_path, opened("/dev/full")) == (2, told)


def test_an_answer_that_finds_no_room_is_said_on_standard_error(tmp_path, answered):
    def small_files():
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        os.lseek(1, 195, os.SEEK_SET)

    code, errors = in_child(tmp_path, opened(tmp_path / "out"), small_files)
    assert code == 2
    assert errors.splitlines()[0] == "kvlens: cannot write to standard output: File too large"
    assert errors.splitlines()[1] == "café \\x1b[31mred\\x1b[0m 8 → 9"


def test_a_reader_that_went_away_ends_it_silently(tmp_path):
    reads, writes = os.pipe()
    os.close(reads)
    assert in_child(tmp_path, writes) == (141, "")


def test_no_file_becomes_standard_output_or_error(tmp_path, monkeypatch):
    """The next file that is opened has the lowest free descriptor."""
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(sys, name, None)
    child = os.fork()
    if child == 0:
        os.close(0)
        os.close(2)
        with usable_streams():
            descriptor = os.open(tmp_path / "results", os.O_WRONLY | os.O_CREAT)
            print("a warning", file=sys.stderr)
            os.write(2, b"of a library")
            os._exit(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) > 2
    assert (tmp_path / "results").read_bytes() == b""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">&-", 2), (">/dev/full", 2), ("| head -1 >/dev/null", 141), ("2>&-", 0), ("<&-", 0)],
)
@pytest.mark.parametrize("arguments", ["models", "--help"])
def test_in_a_shell(arguments, redirection, code):
    command = f"{sys.executable} -m kvlens.cli {arguments} {redirection}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    # A reader that goes away may have got all before: 0. The help of cyclopts ends with 1.
    assert ended.returncode in ({code, 0, 1} if code == 141 else {code})
    assert ended.stderr.count("\n") == (code == 2)
    assert "Traceback" not in ended.stderr
