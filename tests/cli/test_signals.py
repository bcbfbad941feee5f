"""Signals: what stops a command, and what it says and leaves."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import kvlens
from kvlens.cli import main

STOPS = ("SIGTERM", "SIGHUP")


@pytest.fixture
def handlers():
    """The handlers that signals have in a shell, and pytest's own afterwards."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in (*STOPS, "SIGINT")}
    for name in STOPS:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    # Whatever runs in the background of a script ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def while_it_runs(monkeypatch, happens):
    """Have something happen in the midst of `kvlens models`."""
    monkeypatch.setattr("kvlens.models.catalog.is_cached", lambda name: happens())


def interrupt():
    raise KeyboardInterrupt


def test_an_interrupt_is_a_line_and_exit_130(monkeypatch, capsys):
    while_it_runs(monkeypatch, interrupt)
    assert main(["models"]) == 130
    assert capsys.readouterr() == ("", "kvlens: interrupted; nothing half-written was left\n")


def test_an_interrupt_while_it_is_imported_is_a_line(tmp_path):
    """Most of the time until a command starts is spent there."""
    (tmp_path / "cyclopts.py").write_text("raise KeyboardInterrupt")
    paths = os.pathsep.join([str(tmp_path), str(Path(kvlens.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "kvlens.cli", "models"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    told = "kvlens: interrupted; nothing was begun\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", told)


@pytest.mark.parametrize("name", STOPS)
def test_a_signal_cleans_up_as_an_interrupt_does(name, handlers, monkeypatch, capsys):
    number = getattr(signal, name)
    while_it_runs(monkeypatch, lambda: os.kill(os.getpid(), number))
    assert main(["models"]) == 128 + number
    told = f"kvlens: stopped by {name}; nothing half-written was left\n"
    assert capsys.readouterr() == ("", told)
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_so(handlers, monkeypatch, capsys):
    """As `nohup` starts a command."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    while_it_runs(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert main(["models"]) == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert capsys.readouterr().err == ""


def test_a_forked_child_ends_as_it_would_without_us(handlers, monkeypatch):
    def fork():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    ended = []
    while_it_runs(monkeypatch, fork)
    assert main(["models"]) == 0
    assert set(ended) == {-signal.SIGTERM}


def test_another_thread_leaves_signals_alone(handlers, capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["models"])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize(
    ("line", "goes_on"),
    [
        ("embed x -i @texts.txt -o @stopped.npy", "--resume goes on"),
        ("sweep x --pairs @pairs.jsonl -o @s.json", "--resume goes on"),
        ("evaluate x --pairs @pairs.jsonl", "the same command goes on"),
        ("profile x --texts @texts.txt -o @p", "nothing half-written was left"),
    ],
)
def test_it_says_what_goes_on(line, goes_on, place, pairs_file, run, monkeypatch, capsys):
    monkeypatch.setattr("kvlens.models.loading.load", lambda *names, **options: interrupt())
    (place / "pairs.jsonl").write_bytes(pairs_file.read_bytes())
    before = set(place.iterdir())
    assert run(line) == 130
    assert capsys.readouterr().err.rstrip().endswith(goes_on)
    assert set(place.iterdir()) == before


class Swallowing:
    """Raises a signal where Python drops every exception: in a finalizer."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)
        _ = [None for _ in range(1000)]  # the handler runs here, inside the finalizer


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_swallowed_signal_comes_again(name, code, handlers, monkeypatch, capsys):
    def swallow():
        Swallowing(getattr(signal, name))
        time.sleep(10)

    while_it_runs(monkeypatch, swallow)
    assert main(["models"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "nothing half-written was left" in said.err
