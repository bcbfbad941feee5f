"""The terminal on a small local model: what is written, what is printed, and how bad input is answered."""

import json
import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from check_run import check_run
from conftest import tiny

import kvlens
from kvlens.cli import main
from kvlens.cli.folders import run_name

WORDS = (
    "river",
    "stone",
    "light",
    "music",
    "paper",
    "engine",
    "garden",
    "silver",
    "window",
    "market",
    "winter",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two small models and a file of 80 distinct texts."""
    folder = tmp_path_factory.mktemp("cli")
    for architecture in ("llama", "gpt2"):
        lm = tiny(architecture)
        lm.hf.save_pretrained(folder / architecture)
        lm.tokenizer.save_pretrained(folder / architecture)
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(2, 12))) + f" {i}." for i in range(80)]
    (folder / "texts.txt").write_text("\n".join(texts))
    (folder / "rows.csv").write_text(
        "id,body\n" + "\n".join(f"{i},{t}" for i, t in enumerate(texts))
    )
    return folder


def run(place, *args):
    return main([str(arg).replace("@", f"{place}/") for arg in args])


PROFILE = ("profile", "@llama", "--texts", "@texts.txt")


def test_profile_writes_a_complete_run(place, capsys):
    assert run(place, *PROFILE, "-o", "@run", "--save-trace") == 0
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


def test_python_gives_what_the_terminal_gives(place):
    run(
        place,
        *PROFILE,
        "-o",
        "@run-a",
        "--estimators",
        "mle",
        "--points",
        "mean",
        "--states",
        "hidden",
    )
    lm = kvlens.load(place / "llama")
    trace = kvlens.record(lm, kvlens.read_texts(place / "texts.txt"), points="mean")
    profile = kvlens.estimate(trace, estimators=("mle",))
    saved = kvlens.IDProfile.load(place / "run-a" / "profile.json")
    assert profile.estimates == saved.estimates
    assert (
        kvlens.select(profile, estimator="mle").layers
        == kvlens.LayerSet.load(place / "run-a/layers.json").layers
    )


@pytest.mark.parametrize("states", ["k", "k_pre", "v", "kv"])
def test_profile_of_keys_and_values(place, states, capsys):
    assert run(place, *PROFILE, "-o", f"@run-{states}", "--states", states, "--json") == 0
    result = json.loads(capsys.readouterr().out)["models"][0]
    profile = kvlens.IDProfile.load(place / f"run-{states}" / "profile.json")
    assert profile.states == states
    # In layer 0 the prompt's last token is all that K and V depend on: one point, no dimension.
    assert profile.layers == (1, 2, 3)
    assert len(result["id"]) == 3


def test_json_alone_on_standard_output(place, capsys):
    args = [
        *PROFILE,
        "--n",
        "60",
        "--json",
        "-o",
        "@run-json",
        "--rule",
        "explicit",
        "--layers",
        "1-2",
    ]
    assert run(place, *args) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["models"][0]["layers"] == [1, 2]
    assert result["models"][0]["n"] == 60


def test_several_models_in_one_plot(place, capsys):
    assert (
        run(
            place,
            "profile",
            "@llama",
            "@gpt2",
            "--texts",
            "@rows.csv",
            "--column",
            "body",
            "-o",
            "@two",
        )
        == 0
    )
    for name in ("llama", "gpt2"):
        check_run(place / "two" / name, f"{place}/{name}")
    assert (place / "two" / "layer_id.png").stat().st_size > 10_000


def test_existing_output_is_kept_or_replaced_whole(place, capsys):
    run(place, *PROFILE, "-o", "@again")
    (place / "again" / "mine.txt").write_text("precious")
    assert run(place, *PROFILE, "-o", "@again") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (place / "again" / "mine.txt").exists()
    assert (
        run(place, "profile", "@llama", "--texts", "@absent.txt", "-o", "@again", "--overwrite")
        == 2
    )
    assert (place / "again" / "mine.txt").exists()
    (place / "again" / "results").mkdir()  # of an evaluation, hours of work
    (place / "again" / "sweep.json").write_text("{}")
    assert run(place, *PROFILE, "-o", "@again", "--overwrite") == 0
    assert not (place / "again" / "mine.txt").exists()
    assert (place / "again" / "results").is_dir()
    assert (place / "again" / "sweep.json").is_file()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def test_truncation_is_counted_or_refused(place, capsys):
    args = [*PROFILE, "--max-length", "64"]
    assert run(place, *args, "-o", "@short", "--json") == 0
    truncated = json.loads(capsys.readouterr().out)["models"][0]["truncated"]
    prompt = kvlens.PROMPTS["kv-document-inner"]
    lengths = [len(prompt.render(t)) for t in kvlens.read_texts(place / "texts.txt")]
    assert truncated == sum(n > 64 for n in lengths) > 0
    assert run(place, *args, "-o", "@strict", "--strict") == 2
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
    ("args", "message"),
    [
        (("profile", "@nowhere", "--texts", "@texts.txt"), "no such file or directory"),
        (("profile", "not a model"), "give one of smollm2-135m"),
        (("profile", "kvlens-nobody/kvlens-nothing"), "hub"),
        (("profile", "@llama", "--texts", "@empty.txt"), "has no texts"),
        (
            ("profile", "@llama", "--texts", "@few.txt", "--n", "400"),
            "49 distinct texts, at least 50 are needed",
        ),
        (
            ("profile", "@llama", "--texts", "@rows.csv", "--column", "text"),
            "no column 'text'; it has: 'id', 'body'",
        ),
        (("profile", "@llama", "--texts", "@bad.jsonl"), "line 2 is not valid JSON"),
        (("profile", "@llama", "--texts", "@absent.txt"), "no such file"),
        (("profile", "@nan", "--texts", "@texts.txt"), "NaN or infinity in hidden of layer 2"),
        ((*PROFILE, "-o", "@a-file"), "--overwrite"),
        ((*PROFILE, "-o", "@a-file/below"), "cannot write"),
        ((*PROFILE, "--rule", "best"), "unknown rule 'best'"),
        ((*PROFILE, "--rule", "explicit", "--layers", "9"), "layer"),
        ((*PROFILE, "--estimators", "pca"), "pca"),
        ((*PROFILE, "--prompt", "nope"), "unknown prompt"),
        ((*PROFILE, "--window", "7"), "window"),
        ((*PROFILE, "--dtype", "int8"), "unknown dtype"),
        (("bench", "@llama"), "nothing to measure"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(broken, args, message, capsys):
    before = set(broken.iterdir())
    extra = ("-o", "@out") if args[0] == "profile" and "-o" not in args else ()
    assert run(broken, *args, *extra) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert message in err
    assert set(broken.iterdir()) == before


def test_bad_arguments_are_one_line_and_exit_2(capsys):
    for args in (
        ["profile"],
        ["fly"],
        ["profile", "x", "--n", "0"],
        ["profile", "x", "--layers", "a"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert stop.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_debug_shows_the_traceback(place):
    with pytest.raises(kvlens.InputError):
        run(place, "profile", "@nowhere", "--debug")


def test_embed_writes_vectors_with_their_ids(place, capsys):
    assert run(place, *PROFILE, "-o", "@for-embed", "--rule", "explicit", "--layers", "1,2") == 0
    capsys.readouterr()
    embed = (
        "embed",
        "@llama",
        "--layers",
        "@for-embed/layers.json",
        "-i",
        "@rows.csv",
        "--column",
        "body",
    )
    assert run(place, *embed, "--id-column", "id", "-o", "@v.npy", "--normalize", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 80
    found = kvlens.load_vectors(place / "v.npy")
    encoder = kvlens.Encoder(
        kvlens.load(place / "llama"), layers=place / "for-embed" / "layers.json"
    )
    texts = kvlens.read_texts(place / "rows.csv", "body")
    np.testing.assert_allclose(
        found.vectors, encoder.encode(texts.items, normalize_embeddings=True), atol=1e-6
    )
    assert list(found.ids) == [str(i) for i in range(80)]
    for args, message in (
        ((*embed, "-o", "@v.npy"), "--overwrite"),
        ((*embed, "-o", "@v.txt"), ".npy"),
        (("embed", "@gpt2", *embed[2:], "-o", "@w.npy"), "was made for"),
        (
            ("embed", "@llama", "-i", "@rows.csv", "--column", "body", "-o", "@w.npy"),
            "kv_embedding needs layers",
        ),
        (
            ("embed", "@llama", "--layers", "7", "-i", "@texts.txt", "-o", "@w.npy"),
            "layer 7 is outside",
        ),
        ((*embed, "-o", "@w.npy", "--post", "whiten"), "no whiten is fitted"),
        ((*embed, "-o", "@w.npy", "--method", "magic"), "unknown method 'magic'"),
    ):
        assert run(place, *args) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert message in err
    assert not (place / "w.npy").exists()


def test_attend_on_one_text_and_over_many(place, capsys, monkeypatch):
    attend = ("attend", "@llama", "--layers", "1-2", "--json")
    monkeypatch.chdir(place)
    assert run(place, *attend, "--text", "a") == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "runs/llama-attend"
    assert (place / "runs/llama-attend/patterns.safetensors").exists()
    assert run(place, *attend, "--text", "a <b> text", "-o", "@one-text") == 0
    assert any(name.endswith(".png") for name in json.loads(capsys.readouterr().out)["files"])
    assert run(place, *attend, "--texts", "@texts.txt", "--n", "12", "-o", "@many-texts") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert {name.rpartition(".")[2] for name in files} >= {"png", "safetensors"}
    for extra in ((), ("--text", "a", "--texts", "@texts.txt")):
        assert run(place, *attend, *extra, "-o", "@neither") == 2
        assert "either --text or --texts" in capsys.readouterr().err
    assert not (place / "neither").exists()


def test_a_run_is_named_after_the_whole_model():
    names = ("Qwen/Qwen3-0.6B", "./dir/model-1.5/", "a.gguf")
    assert [run_name(name) for name in names] == ["Qwen3-0.6B", "model-1.5", "a"]


def test_check_answers_with_its_exit_code(place, capsys):
    assert run(place, "check", "@llama") == 0
    assert "passed: 5 texts" in capsys.readouterr().out
    assert run(place, "check", "@llama", "--tolerance", "1e-12") == 1
    assert "FAILED" in capsys.readouterr().out


def test_models_lists_the_named_ones(capsys):
    assert main(["models", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [
        "smollm2-135m",
        "gemma3-270m",
    ]


def test_bench_prints_ratios(place, capsys):
    assert (
        run(
            place,
            "bench",
            "@llama",
            "--record",
            "--memory",
            "--texts",
            "@texts.txt",
            "--n",
            "60",
            "--json",
        )
        == 0
    )
    memory, recording = json.loads(capsys.readouterr().out)
    assert memory["MiB"] >= 0
    median, low, high = (float(x) for x in re.findall(r"[\d.]+", recording["cpu"]))
    assert 0 < low <= median <= high


@pytest.mark.parametrize("command", ["profile", "embed", "sweep", "evaluate", "bench"])
def test_help_tells_each_default_once(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "[default: " in told
    assert not re.search(r"default: (None|False|\[\])|\[default: [^]]*\] \[default", told)


def test_help_is_quick():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "kvlens.cli", "--help"], check=True, capture_output=True
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


@pytest.mark.real
def test_real_profile(tmp_path, capsys):
    assert main(["profile", "smollm2-135m", "--n", "60", "-o", str(tmp_path / "run")]) == 0
    check_run(tmp_path / "run", "smollm2-135m")
