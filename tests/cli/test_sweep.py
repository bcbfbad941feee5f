"""`kvlens sweep` on a small model: the sweep, the study beside it, and what is refused."""

import pytest

from kvlens.layers.rules import PROFILE_RULES
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.regret import LayerStudy

RULES = ("best", "average", *PROFILE_RULES)


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
