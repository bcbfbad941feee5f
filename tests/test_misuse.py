"""Misuse of the Python API is an `InputError` that names the parameter; numpy's numbers work."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kvlens

pytest.importorskip("mteb")
pytest.importorskip("sentence_transformers")
HERE = Path(__file__).parent
pytestmark = pytest.mark.slow

# Without a parameter that can be wrong.
WITHOUT = {"articles"}


@pytest.fixture(scope="module")
def answer():
    """How every call ended, in a process without checked axes."""
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "misuse"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_wrong_argument_is_refused_by_its_name(answer):
    calls, _ = answer
    assert len(calls) > 1500
    problems = [" | ".join(call) for call in calls if call[3]]
    assert not problems, "\n".join(problems)


def test_every_public_function_is_tried_with_every_parameter(answer):
    calls, _ = answer
    tried = {(title, name) for title, name, *_ in calls}
    titles = {title for title, _ in tried}
    for public in sorted({*kvlens.__all__, "open"} - WITHOUT):
        function = getattr(kvlens, public)
        if inspect.isfunction(function) or public in ("Encoder", "Texts"):
            missing = parameters(function) - {name for title, name in tried if title == public}
            assert not missing, f"{public}: {missing}"
        elif hasattr(function, "load"):
            assert f"{public}.load" in titles


def parameters(function):
    """The named ones; those of ``**options`` are in the list by hand."""
    every = inspect.signature(function).parameters.values()
    return {each.name for each in every if each.kind != each.VAR_KEYWORD}


def test_numbers_of_numpy_are_recorded_as_plain_ones(answer):
    _, plain = answer
    assert plain["trace"] == [[1, 2], 2]
    assert plain["encoder"]["layers"] == [1, 2]
    assert plain["encoder"]["bias"] == 0.5
    assert plain["vectors"] == [3, 5]
    assert plain["layer set"] == [[1, 2], [0.5, 0.5]]
    assert plain["shift"] == [[1, 2], [2.0, 2.0], 3]
