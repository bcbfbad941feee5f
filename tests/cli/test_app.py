"""The terminal itself: help, exit codes, bad command lines, completion."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest

import kvlens
from kvlens.cli import main
from kvlens.cli.app import app

COMMANDS = [name for name in app if not name.startswith("-")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "kvlens: a command is missing (see kvlens --help)"),
        (["fly"], 'kvlens: unknown command "fly" (see kvlens --help)'),
        (["profil"], 'Did you mean "profile"?'),
        (["profile"], "kvlens profile: MODEL requires an argument (see kvlens profile --help)"),
        (["profile", "x", "--n", "0"], "'0' is not a positive whole number"),
        (["profile", "x", "--n", "5.5"], "'5.5' is not a positive whole number"),
        (["profile", "x", "--n"], "--n requires an argument"),
        (["profile", "x", "--layers", "a"], "'a' is not a list of layers"),
        (["profile", "x", "--points", "first"], 'Choose from: "last", "mean", "all"'),
        (["profile", "x", "--fast"], "unknown option: --fast"),
        (["profile", "x", "--no-strict"], "unknown option: --no-strict"),
        (["profile", "x", "--texts", "--json"], "It is a flag, not a value"),
        (["report", "a", "b c"], "unexpected 'b c'"),
        (["embed", "x", "-i", "a"], "--output requires an argument"),
        (["check", "x", "--tolerance", "much"], 'unable to convert "much" into float'),
        (["sweep", "x", "--pairs", "p", "--biases", "a,b"], "is not a list of numbers"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert re.match(r"kvlens( [a-z]+)?: ", err)


def test_debug_shows_the_traceback(run):
    with pytest.raises(kvlens.InputError):
        run("profile @nowhere --debug")


def test_an_unexpected_error_of_the_system_is_a_line_and_exit_2(monkeypatch, capsys):
    def full(name):
        raise OSError(errno.ENOSPC, "No space left on device", "some/file")

    monkeypatch.setattr("kvlens.models.catalog.is_cached", full)
    assert main(["models"]) == 2
    assert capsys.readouterr() == ("", "kvlens: some/file: No space left on device\n")
    with pytest.raises(OSError, match="No space left"):
        main(["models", "--debug"])


@pytest.mark.parametrize("arguments", [["models", "caf\udce9"], ["profile", "x", "-o", "\udce9"]])
def test_arguments_that_are_not_utf8_are_refused_before_any_work(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "\\udce9' is not UTF-8" in err


@pytest.mark.parametrize("command", ["profile", "embed", "sweep", "evaluate", "bench"])
def test_help_tells_each_default_once(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "[default: " in told
    assert not re.search(r"default: (None|False|\[\])|\[default: [^]]*\] \[default", told)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described_and_none_negated(command, capsys):
    for argument in app[command].assemble_argument_collection(parse_docstring=True):
        assert not argument.show or argument.parameter.help, argument.name
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert "--json" in told
    assert set(re.findall(r"--(?:no|empty)-[a-z-]+", told)) <= {"--no-model"}


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"kvlens {kvlens.__version__}\n"


@pytest.mark.parametrize("arguments", [["--json", "models"], ["models", "--json"]])
def test_json_before_or_after_the_command(arguments, capsys):
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)


def test_the_last_value_of_an_option_counts_but_sets_of_layers_add_up():
    profile = "profile a b --n 5 --n 7 --estimators mle --estimators twonn --layers 1 --layers 2-3"
    arguments = app.parse_args(profile)[1].arguments
    assert arguments["names"] == ["a", "b"]
    assert arguments["texts"].n == 7
    assert arguments["measured"].estimators == ("twonn",)
    assert arguments["selection"].layers == (2, 3)
    sweep = "sweep a --pairs p --layers 1,2 --layers x.json --widths 1,4 --biases 0,1,3"
    windows = app.parse_args(sweep)[1].arguments["windows"]
    assert windows.layers == ("1,2", "x.json")
    assert (windows.widths, windows.biases) == ((1, 4), (0.0, 1.0, 3.0))


def cpu_seconds(*arguments):
    """CPU seconds of a Python process, the least of five: waiting for a busy core is no work.

    Modules are compiled, as they are for everybody who has started it before.
    """
    keeping = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=keeping)
        after = os.times()
        user = after.children_user - before.children_user
        system = after.children_system - before.children_system
        seconds.append(user + system)
    return min(seconds)


def test_help_and_import_are_quick():
    assert cpu_seconds("-m", "kvlens.cli", "--help") < 0.5
    assert cpu_seconds("-c", "import kvlens") < 0.2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_where_it_is_asked_for(shell, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZSH", "ZSH_CUSTOM"):
        monkeypatch.delenv(name, raising=False)
    assert main(["models", "--json"]) == 0
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit, match="0"):
        main(["--install-completion", "--shell", shell])
    scripts = [path for path in tmp_path.rglob("*kvlens*") if path.is_file()]
    assert len(scripts) == 1
    assert "batch-tokens" in scripts[0].read_text()
    assert str(scripts[0]) in capsys.readouterr().out
