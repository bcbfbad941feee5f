"""`kvlens attend` on a small model: on one text and over many."""

import json

import pytest
from zoo import TEXTS

from kvlens import AttentionShift, Effects, InputError, ProbeTokens
from kvlens.analysis.attention import AttentionPatterns
from kvlens.cli.attend import write_attention
from kvlens.plots.saving import save_attention_plots

ATTEND = "attend @llama --layers 1-2 --json"


@pytest.mark.slow
def test_on_one_text_and_over_many(place, run, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert run(f"{ATTEND} --text a") == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "runs/llama-attend"
    assert (place / "runs/llama-attend/patterns.safetensors").exists()
    assert run(f"{ATTEND} --text 'a <b> text' -o @one-text") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert any(name.endswith(".png") for name in files)
    assert run(f"{ATTEND} --texts @texts.txt --n 12 -o @many-texts") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert {name.rpartition(".")[2] for name in files} >= {"png", "safetensors"}


@pytest.mark.parametrize("texts", ["", "--text a --texts @texts.txt"])
def test_either_one_text_or_many(place, run, texts, capsys):
    assert run(f"{ATTEND} {texts} -o @neither") == 2
    assert "either --text or --texts" in capsys.readouterr().err
    assert not (place / "neither").exists()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["- a list", "-1", "--text=--json"])
def test_a_text_may_begin_with_a_dash(place, run, text, capsys):
    option = text if text.startswith("--text=") else f"--text '{text}'"
    assert run(f"{ATTEND} {option} -o @dashed --overwrite") == 0
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_it_writes_results_and_the_same_bytes_again(tmp_path, zoo):
    llama = zoo("llama")
    layers = (0, 2)
    shift = write_attention(llama, layers, tmp_path / "a", texts=TEXTS, bins=5)
    text = "中 <b> $x$"
    patterns = write_attention(llama, layers, tmp_path / "a", text=text, max_length=200)
    assert AttentionShift.load(tmp_path / "a" / "shift.safetensors").bins == 5
    loaded = AttentionPatterns.load(tmp_path / "a" / "patterns.safetensors")
    assert loaded.tokens == patterns.tokens
    written = [
        *save_attention_plots(shift, tmp_path / "b"),
        *save_attention_plots(patterns, tmp_path / "b"),
    ]
    assert len(written) == 10
    for path in written:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    for both in ({}, {"text": "a", "texts": TEXTS}):
        with pytest.raises(InputError, match="either one text or a file of texts"):
            write_attention(llama, layers, tmp_path, **both)


def test_effects_of_pairs_are_written_and_told_strongest_first(place, run, pairs_file, capsys):
    line = f"attend @llama --layers 1-2 --effects --pairs {pairs_file} --n 12 -o @effects"
    assert run(line) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) <= 21
    found = Effects.load(place / "effects/effects.json")
    strongest = max(found.effects, key=lambda each: each.moved)
    assert out[2].startswith(strongest.words)
    assert f"{found.score.value:.1f}" in out[-2]
    assert found.command.startswith("kvlens attend")
    assert found.n_pairs == 12
    names = {path.name for path in (place / "effects").iterdir()}
    assert names == {"attend.toml", "effects.json", "effects.png", "effects.pdf"}
    assert run(f"{line} --overwrite --json") == 0
    assert json.loads(capsys.readouterr().out)["files"] == sorted(names - {"attend.toml"})


def test_effects_of_texts_and_of_one(place, run, capsys):
    effects = "attend @llama --layers 2 --effects --json"
    assert run(f"{effects} --texts @texts.txt --n 3 -o @of-texts") == 0
    assert Effects.load(place / "of-texts/effects.json").texts.n == 3
    assert run(f"{effects} --text 'one text' -o @of-one") == 0
    assert Effects.load(place / "of-one/effects.json").score is None
    capsys.readouterr()


def test_effects_of_another_source(place, run, capsys):
    line = "attend @llama --layers 2 --effects --text 'one text' --source"
    assert run(f"{line} probe --columns 3 -o @of-columns") == 0
    control = Effects.load(place / "of-columns/effects.json").control
    assert (control.source, control.columns) == ("probe", 3)
    assert "(source probe, 3 columns)" in capsys.readouterr().out
    assert run(f"{line} -2 -o @of-index") == 0
    assert Effects.load(place / "of-index/effects.json").control.source == -2
    capsys.readouterr()


def test_probe_tokens_are_written_and_told_by_layer(place, run, capsys):
    assert run("attend @llama --layers 1-2 --probe --texts @texts.txt --n 3 -o @probed") == 0
    out = capsys.readouterr().out.splitlines()
    found = ProbeTokens.load(place / "probed/probe_tokens.json")
    assert (found.columns, found.texts.n) == (4, 3)
    assert [line.split()[0] for line in out[2:4]] == ["1", "2"]
    assert found.command.startswith("kvlens attend")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--effects", "give one"),
        ("--effects --text a --texts @texts.txt", "--effects are of one of --text, --texts or"),
        ("--effects --text a --pairs @texts.txt", "give one"),
        ("--text a --pairs @texts.txt", "--pairs and --calibration are for --effects"),
        ("--effects --text a --bins 3", "--bins and --span are of attention"),
        ("--effects --text a --calibration @none", "none"),
        ("--probe --effects --text a", "--probe tells of source probe alone"),
        ("--probe --source mean --text a", "--probe tells of source probe alone"),
        ("--source mean --text a", "--source and --columns are for --effects"),
        ("--probe --text a --bins 3", "give them without --probe"),
        ("--probe", "either --text or --texts"),
        ("--probe --text a --columns 65", "--columns is 65; it must be"),
        ("--effects --text a --columns 2", "--columns are for source 'probe'"),
    ],
)
def test_what_does_not_go_together_is_one_line(place, run, capsys, options, said):
    assert run(f"{ATTEND} {options} -o @refused") == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (place / "refused").exists()
