"""`kvlens sweep` on a small model: the sweep, the study beside it, and what is refused."""

import json

import pytest
from killed import RENAMES, killed_before

from kvlens.layers.rules import DEPTH_RULES, PROFILE_RULES
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.studies.regret import LayerStudy

RULES = ("best", "average", "no re-routing", *PROFILE_RULES, *DEPTH_RULES)


@pytest.fixture(scope="module")
def runs(place, run):
    """The place, with a profile of each model in it."""
    for model in ("gpt2", "llama"):
        assert run(f"profile @{model} --texts @texts.txt -o @swept-{model}") == 0
    return place


@pytest.fixture
def out(runs, tmp_path):
    return tmp_path / "sweep.json"


@pytest.fixture
def sweep(run, out, pairs_file):
    """Run `kvlens sweep` on gpt2 with further options; its file is `out`."""
    return lambda options: run(f"sweep @gpt2 --pairs {pairs_file} -o {out} {options}")


@pytest.fixture(scope="module")
def a_sweep(runs, run, pairs_file):
    assert run(f"sweep @gpt2 --pairs {pairs_file} --widths 2 -o @sweep-of-before.json") == 0
    return (runs / "sweep-of-before.json").read_bytes()


@pytest.fixture
def swept_before(a_sweep, out, capsys):
    """A sweep is there: its bytes."""
    out.write_bytes(a_sweep)
    capsys.readouterr()
    return a_sweep


def widths(path):
    return {window.width for window in Sweep.load(path).windows}


def test_a_dry_run_counts_every_window(sweep, out, capsys):
    told = []
    for options in ("--widths 2", "--widths 1,2 --biases 0,1"):
        capsys.readouterr()
        assert sweep(f"{options} --dry-run --json") == 0
        told.append(json.loads(capsys.readouterr().out))
    # Beside the plain pass: three windows; three and four, with two biases each.
    assert told[0]["tokens"] * 15 == told[1]["tokens"] * 4
    assert not out.exists()
    assert sweep("--what readout --dry-run --json") == 0
    assert json.loads(capsys.readouterr().out)["tokens"] * 4 == told[0]["tokens"]
    assert not out.exists()


def test_pairs_that_are_elsewhere(run, out, pairs_address):
    here = f"sweep @gpt2 --pairs {pairs_address} -o {out} --what readout --n 10"
    assert run(here) == 0
    assert ReadoutSweep.load(out).data == pairs_address


def test_windows_further_sets_and_rules(sweep, out, capsys):
    further = "--layers 0,3 --layers @swept-gpt2/layers.json"
    options = f"--widths 1,2 --biases 0,1 {further} --profiles @swept-gpt2/profile.json"
    capsys.readouterr()
    assert sweep(options) == 0
    printed = capsys.readouterr().out
    swept = Sweep.load(out)
    judged = LayerStudy.load(out.with_name("study.json"))
    assert str(swept) in printed
    assert str(judged) in printed
    assert [(window.bias, window.width) for window in swept.windows] == [
        (bias, width) for bias in (0, 1) for width in (1, 1, 1, 1, 2, 2, 2)
    ]
    assert swept.find((0, 3), 0)
    explicit = [o.bias for o in judged.outcomes if (o.rule, o.layers) == ("explicit", (0, 3))]
    assert explicit == [0, 1]
    by_rule = {(o.rule, o.width, o.bias) for o in judged.outcomes if o.rule != "explicit"}
    assert by_rule == {(r, width, bias) for r in RULES for width in (1, 2) for bias in (0, 1)}


def test_a_set_of_another_width_is_no_window(sweep, out):
    assert sweep("--widths 2 --layers 0-2 --profiles @swept-gpt2/profile.json") == 0
    assert widths(out) == {2}
    outcomes = LayerStudy.load(out.with_name("study.json")).outcomes
    assert ("explicit", 3) not in {(outcome.rule, outcome.width) for outcome in outcomes}


def test_the_study_is_that_of_the_sweep(sweep, out):
    study = out.with_name("study.json")
    assert sweep("--widths 4 --profiles @swept-gpt2/profile.json") == 0
    assert LayerStudy.load(study).correlations == (), "one window has no rank"
    assert sweep("--resume --widths 1") == 0
    assert widths(out) == {1, 4}
    assert study.exists(), "that of this sweep"
    assert sweep("--overwrite --widths 2") == 0
    assert not study.exists(), "that of another sweep"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "sweep.json exists"),
        ("--resume --pooling mean", "the sweep to go on with"),
        ("--overwrite --widths 5", "does not fit into 4 layers"),
        ("--overwrite --profiles absent.json", "cannot read the ID profile"),
        ("--overwrite --pooling max", "unknown pooling"),
        ("--overwrite --layers absent.json", "cannot read the layer set"),
        ("--overwrite --biases 1 --layers 7", "layer 7 is outside"),
        ("--overwrite --layers @swept-llama/layers.json", "made for"),
        ("--overwrite --profiles @swept-llama/profile.json", "made for"),
    ],
)
def test_what_cannot_be_swept_is_refused(sweep, out, swept_before, options, message, capsys):
    assert sweep(options) == 2
    assert message in capsys.readouterr().err
    assert out.read_bytes() == swept_before


def test_widths_that_are_none(sweep, out, swept_before, capsys):
    with pytest.raises(SystemExit, match="2"):
        sweep("--overwrite --widths 2-1")
    assert "not a list of layers" in capsys.readouterr().err
    assert out.read_bytes() == swept_before


OPTIONS = "--widths 2 --layers 0,3 --batch-tokens 300"


def left(out):
    return {path.name: path.read_bytes() for path in out.parent.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, pytest.param(True, marks=pytest.mark.torture)])
def test_killed_before_any_rename_it_resumes(runs, run, pairs_file, tmp_path, overwrite, capsys):
    """Killed anywhere, the same command and a flag give the bytes of one that nobody stopped."""
    out = tmp_path / "out" / "sweep.json"
    command = f"sweep @gpt2 --pairs {pairs_file} -o {out} {OPTIONS}"
    if overwrite:
        command += " --overwrite"
    assert run(command) == 0
    whole = left(out)
    assert set(whole) == {"sweep.json", "study.json", "sweep.json.toml"}
    before = {}
    if overwrite:
        assert run(command.replace("--widths 2", "--widths 1")) == 0
        before = left(out)
    n = 0
    killed = True
    while killed:
        n += 1
        for path in out.parent.iterdir():
            path.unlink()
        for name, data in before.items():
            (out.parent / name).write_bytes(data)
        killed = killed_before(n, lambda: run(command), RENAMES)
        has_chunks = any(out.parent.glob("sweep.json.part/*.safetensors"))
        if has_chunks and not overwrite:
            assert run(command) == 2
            assert "has a stopped run: --resume continues it" in capsys.readouterr().err
        capsys.readouterr()
        assert run(f"{command} --resume") == 0
        assert not capsys.readouterr().err
        assert left(out) == whole
    assert n > 8


@pytest.mark.torture
def test_an_extension_that_was_killed_resumes(runs, run, pairs_file, tmp_path, capsys):
    out = tmp_path / "out" / "sweep.json"
    first = f"sweep @gpt2 --pairs {pairs_file} -o {out} --widths 2 --batch-tokens 300"
    second = f"sweep @gpt2 --pairs {pairs_file} -o {out} {OPTIONS.replace('2', '1')} --resume"
    assert run(first) == 0
    before = left(out)
    assert run(second) == 0
    whole = left(out)
    n = 0
    killed = True
    while killed:
        n += 1
        for path in out.parent.iterdir():
            path.unlink()
        (out.parent / "sweep.json").write_bytes(before["sweep.json"])
        killed = killed_before(n, lambda: run(second), RENAMES)
        assert run(second) == 0
        assert left(out) == whole
    assert n > 8


def test_a_stopped_sweep_of_another_command_stays(sweep, out, swept_before, capsys):
    """It would replace the sweep; whoever only asks for the old one does not lose it."""
    options = "--overwrite --widths 2 --batch-tokens 300"
    assert killed_before(6, lambda: sweep(options), RENAMES)
    part = out.with_name("sweep.json.part")
    chunks = sorted(part.glob("*.safetensors"))
    assert chunks
    capsys.readouterr()
    assert sweep("--widths 2") == 2
    assert "has a stopped run: --resume continues it" in capsys.readouterr().err
    assert sweep("--widths 2 --resume") == 0
    assert "has another sweep that was stopped" in capsys.readouterr().err
    assert out.read_bytes() == swept_before
    assert sorted(part.glob("*.safetensors")) == chunks
    assert sweep(f"{options} --resume") == 0
    assert not part.exists()


def test_readout_writes_numbers_and_a_picture(runs, run, tmp_path, pairs_file, capsys):
    out = tmp_path / "readout.json"
    line = f"sweep @gpt2 --what readout --pairs {pairs_file} -o {out}"
    capsys.readouterr()
    assert run(f"{line} --profiles @swept-gpt2/profile.json") == 0
    swept = ReadoutSweep.load(out)
    assert str(swept) in capsys.readouterr().out
    assert "no re-routing, document kv-document-inner, pooling hybrid" in swept.method
    assert {path.name for path in tmp_path.iterdir()} == {
        "readout.json",
        "readout.pdf",
        "readout.png",
        "readout.json.toml",
    }
    assert run(f"{line} --overwrite --layers 0,2 --position none --pooling mean") == 0
    settings = ReadoutSweep.load(out).settings
    assert (settings["layers"], settings["position"]) == ([0, 2], "none")
    assert run(f"{line} --overwrite --method prompt_eol") == 0
    assert ReadoutSweep.load(out).method == "prompt_eol"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--what readout --widths 2", "--widths and --biases are of windows"),
        ("--what readout --layers 0 --layers 1", "give --layers once"),
        ("--what readout --resume", "--resume goes on with windows"),
        ("--what readout --profiles @swept-llama/profile.json", "was made for"),
        ("--method mean", "give it with --what readout"),
    ],
)
def test_what_goes_with_what(sweep, out, options, says, capsys):
    capsys.readouterr()
    assert sweep(options) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()
