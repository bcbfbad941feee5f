"""`kvlens evaluate` on sentence pairs, and `kvlens score`, as it was called before."""

import json

import pytest

PAIRS = "--methods kv_embedding,mean --layers 1-2 --prompts raw,kv-document-inner"


@pytest.mark.parametrize("command", ["evaluate", "score"])
def test_every_method_with_every_prompt(run, pairs_file, command, capsys):
    assert run(f"{command} @gpt2 --pairs {pairs_file} {PAIRS} --json") == 0
    out, err = capsys.readouterr()
    assert [(row["method"], row["prompt"]) for row in json.loads(out)] == [
        (method, prompt)
        for method in ("kv_embedding", "mean")
        for prompt in ("raw", "kv-document-inner")
    ]
    assert ("kvlens evaluate --pairs" in err) == (command == "score")
    assert run(f"{command} @gpt2 --pairs {pairs_file}") == 2
    assert "kv_embedding needs layers" in capsys.readouterr().err


def test_pairs_that_are_elsewhere_are_the_same_pairs(run, pairs_file, pairs_address, capsys):
    told = []
    for source in (pairs_file, pairs_address):
        assert run(f"evaluate @gpt2 --pairs {source} --methods mean --json") == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]


def test_a_dry_run_counts_a_shared_pass_once(run, pairs_file, capsys):
    told = []
    for methods in ("mean", "mean,last_token", "mean,last_token,echo"):
        assert run(f"evaluate @gpt2 --pairs {pairs_file} --methods {methods} --dry-run --json") == 0
        told.append(json.loads(capsys.readouterr().out)["tokens"])
    assert told[0] == told[1] < told[2]


def test_rows_come_in_the_order_of_the_methods(run, pairs_file, capsys):
    """Also of methods that share a pass with an earlier one, as at first and third place here."""
    line = f"evaluate @gpt2 --pairs {pairs_file} --json --methods"
    assert run(f"{line} mean,prompt_eol,last_token,mean") == 0
    together = json.loads(capsys.readouterr().out)
    alone = []
    for method in ("mean", "prompt_eol", "last_token", "mean"):
        assert run(f"{line} {method}") == 0
        alone += json.loads(capsys.readouterr().out)
    assert together == alone


@pytest.mark.slow
def test_the_alias_gives_the_same(run, pairs_file, capsys):
    options = f"@gpt2 --pairs {pairs_file} --n 20 --bias 2 --pooling mean {PAIRS}"
    printed = []
    for line in (f"evaluate {options}", f"score {options}"):
        for form in ("", "--json"):
            assert run(f"{line} {form}") == 0
            printed.append(capsys.readouterr().out)
    assert printed[:2] == printed[2:]
    assert printed[0].count("n = 20") == 4
    rows = json.loads(printed[1])
    assert [f"{row['spearman']:5.1f}  ({row['low']:.1f} to" in printed[0] for row in rows]


def test_methods_take_settings(run, pairs_file, capsys):
    line = f"evaluate @gpt2 --pairs {pairs_file} --layers 1-2 --json --methods"
    rows = {}
    for methods in ("kv_embedding:bias=2:pooling=mean", "kv_embedding --bias 2 --pooling mean"):
        assert run(f"{line} {methods}") == 0
        (rows[methods],) = json.loads(capsys.readouterr().out)
    by_setting, by_option = rows.values()
    assert by_setting.pop("method") == "kv_embedding:bias=2:pooling=mean"
    assert by_option.pop("method") == "kv_embedding"
    assert by_setting == by_option


def test_the_alias_is_not_shown(run, capsys):
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    out = capsys.readouterr().out
    assert "evaluate" in out
    assert "score " not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--pairs PAIRS --tasks STS12 --post center", "--tasks goes with tasks, not with --pairs"),
        ("--pairs PAIRS --post center", "--post goes with tasks"),
        ("--pairs PAIRS --limit 3", "--limit goes with tasks"),
        ("--pairs PAIRS --data-dir here", "--data-dir goes with tasks"),
        ("--pairs PAIRS --task-instructions", "--task-instructions goes with tasks"),
        ("--pairs PAIRS -o here", "-o goes with tasks"),
        ("--n 20", "--n goes with sentence pairs: give their file as --pairs"),
        ("--prompts raw", "--prompts goes with sentence pairs"),
        ("--bias 0", "--bias goes with sentence pairs"),
        ("--pooling mean", "--pooling goes with sentence pairs"),
    ],
)
def test_tasks_or_pairs(run, pairs_file, options, message, capsys):
    assert run(f"evaluate @gpt2 {options.replace('PAIRS', str(pairs_file))}") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
