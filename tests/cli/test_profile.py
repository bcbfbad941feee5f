"""`kvlens profile` on a small model: what is written and printed; bad input."""

import json

import pytest
import torch
from check_run import check_run
from zoo import tiny

import kvlens
from kvlens.cli import main
from kvlens.layers.rules import RULES

PROFILE = "profile @llama --texts @texts.txt"


def test_the_help_names_every_rule(run, capsys):
    with pytest.raises(SystemExit):
        run("profile --help")
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(RULES) in words


@pytest.mark.slow
def test_it_writes_a_complete_run(place, run, capsys):
    assert run(f"{PROFILE} -o @run --save-trace") == 0
    out, err = capsys.readouterr()
    check_run(place / "run", f"{place}/llama")
    layers = kvlens.LayerSet.load(place / "run" / "layers.json")
    trace = kvlens.Trace.load(place / "run" / "trace.safetensors")
    assert kvlens.estimate(trace).estimates == layers.profile.estimates
    assert trace.texts.n == 80
    assert "kvlens profile" in layers.command
    assert "--save-trace" in layers.command
    assert f"plot: {place}/run/layer_id.png" in out
    assert "done in" in out
    assert err == ""  # no terminal, no bars


@pytest.mark.slow
def test_in_shards_it_is_the_same(place, run, capsys):
    assert run(f"{PROFILE} -o @run-whole") == 0
    assert run(f"{PROFILE} -o @run-shards --shards @of-profile") == 0
    whole, sharded = (
        kvlens.IDProfile.load(place / name / "profile.json") for name in ("run-whole", "run-shards")
    )
    assert sharded.estimates == whole.estimates
    trace = kvlens.Trace.load(place / "of-profile")
    assert trace.texts.n == 80
    before = (place / "of-profile" / "trace.json").stat().st_mtime_ns
    assert run(f"{PROFILE} -o @run-shards --shards @of-profile --overwrite") == 0
    assert (place / "of-profile" / "trace.json").stat().st_mtime_ns == before
    capsys.readouterr()
    assert run(f"{PROFILE} -o @no --shards @of-profile --points mean") == 2
    assert "of-profile" in capsys.readouterr().err
    assert run(f"{PROFILE} -o @no --shards @x --save-trace") == 2
    assert "--shards are the trace of one model" in capsys.readouterr().err
    assert not (place / "no").exists()


@pytest.mark.slow
def test_python_gives_what_the_terminal_gives(place, run):
    run(f"{PROFILE} -o @run-a --estimators mle --points mean --states hidden")
    lm = kvlens.load(place / "llama")
    trace = kvlens.record(lm, kvlens.read_texts(place / "texts.txt"), points="mean")
    profile = kvlens.estimate(trace, estimators=("mle",))
    saved = kvlens.IDProfile.load(place / "run-a" / "profile.json")
    layers = kvlens.LayerSet.load(place / "run-a" / "layers.json").layers
    assert profile.estimates == saved.estimates
    assert kvlens.select(profile, estimator="mle").layers == layers


@pytest.mark.slow
@pytest.mark.parametrize("states", ["k", "k_pre", "v", "kv"])
def test_of_keys_and_values(place, run, states, capsys):
    assert run(f"{PROFILE} -o @run-{states} --states {states} --json") == 0
    result = json.loads(capsys.readouterr().out)["models"][0]
    profile = kvlens.IDProfile.load(place / f"run-{states}" / "profile.json")
    assert profile.states == states
    # In layer 0 the prompt's last token is all that K and V depend on: one point, no dimension.
    assert profile.layers == (1, 2, 3)
    assert len(result["id"]) == 3


def test_json_alone_on_standard_output(place, run, capsys):
    options = "--rule explicit --layers 1-2 --queries shielded --readout -2"
    assert run(f"{PROFILE} --n 60 --json -o @run-json {options}") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["models"][0]["layers"] == [1, 2]
    assert result["models"][0]["n"] == 60
    assert result["models"][0]["stability"] is None  # the user chose
    assert result["models"][0]["sink"]["block"] is None  # of random weights
    layers = kvlens.LayerSet.load(place / "run-json" / "layers.json")
    assert (layers.control.queries, layers.readout) == ("shielded", -2)


def test_the_stability_of_the_choice(place, run, capsys):
    assert run(f"{PROFILE} -o @drawn --draws 7 --json") == 0
    stability = json.loads(capsys.readouterr().out)["models"][0]["stability"]
    layers = kvlens.LayerSet.load(place / "drawn" / "layers.json")
    assert (stability["draws"], stability["n"]) == (7, 40)
    assert stability == json.loads(layers.stability.model_dump_json())
    assert run(f"{PROFILE} -o @undrawn --draws 0") == 0
    out = capsys.readouterr().out
    assert "b*: no massive activation at position 0" in out
    assert "stable   unknown" in out


@pytest.mark.slow
def test_several_models_in_one_plot(place, run):
    assert run("profile @llama @gpt2 --texts @rows.csv --column body -o @two") == 0
    for name in ("llama", "gpt2"):
        check_run(place / "two" / name, f"{place}/{name}")
    assert (place / "two" / "layer_id.png").stat().st_size > 10_000


@pytest.mark.slow
def test_existing_output_is_kept_or_replaced_whole(place, run, capsys):
    folder = place / "again"
    run(f"{PROFILE} -o @again")
    (folder / "mine.txt").write_text("precious")
    assert run(f"{PROFILE} -o @again") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (folder / "mine.txt").exists()
    assert run("profile @llama --texts @absent.txt -o @again --overwrite") == 2
    assert (folder / "mine.txt").exists()
    (folder / "results").mkdir()  # of an evaluation, hours of work
    (folder / "sweep.json").write_text("{}")
    assert run(f"{PROFILE} -o @again --overwrite") == 0
    assert (folder / "mine.txt").read_text() == "precious"
    assert (folder / "results").is_dir()
    assert (folder / "sweep.json").is_file()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_truncation_is_counted_or_refused(place, run, capsys):
    command = f"{PROFILE} --max-length 64"
    assert run(f"{command} -o @short --json") == 0
    truncated = json.loads(capsys.readouterr().out)["models"][0]["truncated"]
    prompt = kvlens.PROMPTS["kv-document-inner"]
    lengths = [len(prompt.render(t)) for t in kvlens.read_texts(place / "texts.txt")]
    assert truncated == sum(n > 64 for n in lengths) > 0
    assert run(f"{command} -o @strict --strict") == 2
    assert "leave out --strict" in capsys.readouterr().err
    assert not (place / "strict").exists()


@pytest.fixture(scope="module")
def broken(place):
    (place / "empty.txt").write_text("\n \n")
    (place / "few.txt").write_text("\n".join(str(i % 49) for i in range(400)))
    (place / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (place / "a-file").write_text("")
    lm = tiny("llama")
    with torch.no_grad():
        lm.hf.model.layers[2].mlp.down_proj.weight.fill_(float("nan"))
    lm.hf.save_pretrained(place / "nan")
    lm.tokenizer.save_pretrained(place / "nan")
    return place


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("profile @nowhere --texts @texts.txt", "no such file or directory"),
        ("profile 'not a model'", "give one of smollm2-135m"),
        ("profile kvlens-nobody/kvlens-nothing", "hub"),
        ("profile @llama --texts @empty.txt", "has no texts"),
        (
            "profile @llama --texts @few.txt --n 400",
            "49 distinct texts, at least 50 are needed",
        ),
        (
            "profile @llama --texts @rows.csv --column text",
            "no column 'text'; it has: 'id', 'body'",
        ),
        ("profile @llama --texts @bad.jsonl", "line 2 is not valid JSON"),
        ("profile @llama --texts @absent.txt", "no such file"),
        ("profile @nan --texts @texts.txt", "NaN or infinity in model.layers.2"),
        (f"{PROFILE} -o @a-file", "--overwrite"),
        (f"{PROFILE} -o @a-file/below", "cannot write"),
        (f"{PROFILE} --rule best", "unknown rule 'best'"),
        (f"{PROFILE} --rule explicit --layers 9", "layer"),
        (f"{PROFILE} --estimators pca", "pca"),
        (f"{PROFILE} --prompt nope", "unknown prompt"),
        (f"{PROFILE} --window 7", "window"),
        (f"{PROFILE} --dtype int8", "unknown dtype"),
        ("bench @llama", "nothing to measure"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(broken, run, line, message, capsys):
    before = set(broken.iterdir())
    writes = line.startswith("profile") and "-o" not in line
    assert run(f"{line} -o @out" if writes else line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert message in err
    assert set(broken.iterdir()) == before


@pytest.mark.real
def test_real_profile(tmp_path):
    assert main(["profile", "smollm2-135m", "--n", "60", "-o", str(tmp_path / "run")]) == 0
    check_run(tmp_path / "run", "smollm2-135m")
    sink = kvlens.IDProfile.load(tmp_path / "run" / "profile.json").sink
    assert (sink.block, sink.share) == (11, 1.0)
