"""`kvlens bench`: ratios, measured side by side."""

import json
import re

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from kvlens.checks import bench_id
from kvlens.checks.shapes import SHAPES


@pytest.mark.slow
def test_it_prints_ratios(run, capsys):
    assert run("bench @llama --record --memory --texts @texts.txt --n 60 --json") == 0
    memory, recording = json.loads(capsys.readouterr().out)
    assert memory["MiB"] >= 0
    median, low, high = (float(x) for x in re.findall(r"[\d.]+", recording["cpu"]))
    assert 0 < low <= median <= high


@pytest.mark.slow
def test_of_embedding_many_texts(run, capfd):
    assert run("bench --memory --rows 20,300 --json") == 0
    few, many, above = json.loads(capfd.readouterr().out)
    assert (few["texts"], many["texts"]) == (20, 300)
    assert 10 < few["MiB"] < 4000
    assert above["MiB"] == round(max(few["MiB"], many["MiB"]) - few["MiB"], 1)


def test_of_methods(place, run, capsys):
    (place / "20.txt").write_text("\n".join(f"a text number {i}" for i in range(20)))
    methods = "--methods kv_embedding,echo --layers 1,2"
    assert run(f"bench @llama --texts @20.txt --repeats 2 {methods} --json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["measured"] for row in rows] == [
        "kv_embedding / plain",
        "echo / plain",
        "echo / kv_embedding",
    ]
    assert all(float(re.match(r"[\d.]+", row["cpu"])[0]) > 0 for row in rows)


def test_of_shared_passes(place, run, capsys):
    (place / "20.txt").write_text("\n".join(f"a text number {i}" for i in range(20)))
    line = "bench @llama --texts @20.txt --repeats 2 --json --together"
    assert run(f"{line} --methods mean,prompt_eol,last_token,aligned_wva,echo") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["measured"] == "5 methods in 3 passes / one after another"
    assert float(re.match(r"[\d.]+", row["cpu"])[0]) > 0
    assert run(line) == 2
    assert "give --methods" in capsys.readouterr().err


def test_of_the_intrinsic_dimension(run, capsys):
    assert run("bench --id --points 300 --width 20 --repeats 2 --json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["measured"] for row in rows] == [
        "ID of one layer / X X^T in float32",
        "ID of one layer / X X^T in float64",
    ]
    assert all((row["points"], row["width"], row["rounds"]) == (300, 20, 2) for row in rows)
    assert all(row["CPU seconds of the ID"] >= 0 for row in rows)
    assert all(float(re.match(r"[\d.]+", row["wall"])[0]) > 0 for row in rows)
    assert run("bench --record") == 2
    assert "no model given" in capsys.readouterr().err
    assert run("bench --id --points 20") == 2
    assert "--points has to be at least 50" in capsys.readouterr().err


@pytest.mark.slow
def test_it_keeps_to_the_limits(run, capsys):
    line = "bench @llama --texts @texts.txt --n 20 --repeats 1 --max-length 64"
    for what in ("--record", "--methods mean", "--memory"):
        assert run(f"{line} {what} --strict") == 2
        assert "leave out --strict" in capsys.readouterr().err
    assert run(f"{line} --record") == 0


def test_of_shapes(run, capsys):
    line = "bench --shapes tiny --n-layers 2 --repeats 1 --dtype float32 --json"
    assert run(f"{line} --lengths 64,128") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["measured"] for row in rows] == 2 * [
        f"encode, {n} layers re-routed / bare pass" for n in (0, 1, 2)
    ]
    for row in rows:
        assert row["model"] == "tiny (2 layers, random weights)"
        assert all(float(number) > 0 for number in row["tokens/s"].split(" / "))
    for options, problem in (("--shapes small", "not small in float32"), ("@llama", "name no")):
        assert run(f"{line} {options}") == 2
        assert problem in capsys.readouterr().err


def test_a_product_in_blocks_meets_every_pair_once(monkeypatch):
    monkeypatch.setattr(bench_id, "AT_ONCE", 10)
    monkeypatch.setattr(bench_id, "ROWS", 4)
    met = []

    class Noted(np.ndarray):
        def __matmul__(self, other):
            met.append((self.shape[0], other.shape[1]))

    bench_id.multiply(np.ones((11, 2), np.float32).view(Noted))
    assert met == [(4, 11), (4, 7), (3, 3)]


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    [("qwen3-4b", 3.6e9), ("mistral-7b", 7.0e9), ("llama-3.1-8b", 7.0e9)],
)
def test_shapes_have_the_size_of_their_models(name, n_parameters):
    """Without their embeddings, as their model cards say."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(SHAPES[name].config_of(None))
    found = sum(each.numel() for block in model.model.layers for each in block.parameters())
    assert found == pytest.approx(n_parameters, rel=0.02)


def test_of_precision(run, capsys):
    assert run("bench @llama --texts @texts.txt --n 60 --precision --json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["measured"] == "ID of the states in bfloat16 against float32"
    assert 0 < row["largest difference"] < 3
    assert row["mean difference"] <= row["largest difference"]
    assert -1 <= row["order of layers"] <= 1


def test_of_padding(place, run, capsys):
    texts = [f"{'a text ' * (i % 9)}{i}" for i in range(200)]
    (place / "200.txt").write_text("\n".join([*texts, texts[0]]))
    assert run("bench @llama --texts @200.txt --n 300 --prompt raw --padding --json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["measured"] for row in rows] == [
        "embedding: real tokens",
        "recording: real tokens",
    ]
    for row in rows:
        assert (row["texts"], row["tokens"]) == (200, sum(map(len, texts)))
    assert 0.9 <= rows[0]["share"] <= 1
    assert 0.8 <= rows[1]["share"] <= rows[0]["share"]


def test_of_rerouting_by_length(place, run, capsys):
    (place / "20.txt").write_text("\n".join(f"a text number {i}" for i in range(20)))
    line = "bench @llama --texts @20.txt --repeats 2 --json --lengths"
    assert run(f"{line} 128,200") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["measured"] for row in rows] == 2 * [
        f"encode, {n} layers re-routed / bare pass" for n in (0, 1, 4)
    ]
    assert rows[0]["texts"].startswith("4 of 128 tokens")
    assert all(float(re.match(r"[\d.]+", row["cpu"])[0]) > 0 for row in rows)
    assert run(f"{line} 300") == 2
    assert "takes 256 tokens at most, not 300" in capsys.readouterr().err
