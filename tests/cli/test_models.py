"""`kvlens models`."""

import json

import pytest
from families import family


def test_it_lists_the_named_ones(run, capsys):
    assert run("models --json") == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names == ["smollm2-135m", "gemma3-270m"]


def test_alike_layers_of_a_model_are_one_line(run, place, capsys):
    assert run("models @llama") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{place}/llama: LlamaForCausalLM, float32 on cpu",
        "4 layers, width 32, 300 tokens known, context 256",
        "layers 0-3: full attention, 4 heads on 2 KV heads of 8, half rotation",
        f"re-routing: every layer, where it is exact (kvlens check {place}/llama)",
    ]


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    """A folder with a model of recurrences and attention."""
    folder = tmp_path_factory.mktemp("hybrid")
    lm = family("qwen3_next")
    lm.hf.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def test_layers_without_keys_are_named(run, hybrid, capsys):
    assert run(f"models {hybrid}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "layer 1: linear: no keys" in lines
    assert any(line.startswith("layers 0, 2: full attention, ") for line in lines)
    assert lines[-1].startswith("re-routing: layers 0, 2, where it is exact")


def test_json_has_every_layer(run, hybrid, capsys):
    assert run(f"models {hybrid} --json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["model"]["architecture"] == "Qwen3NextForCausalLM"
    assert answer["model"]["n_layers"] == len(answer["layers"]) == 3
    assert [layer["kind"] for layer in answer["layers"]] == ["full", "linear", "full"]
    assert [layer["can_reroute"] for layer in answer["layers"]] == [True, False, True]
    assert [layer["n_kv_heads"] for layer in answer["layers"]] == [2, 0, 2]


def test_how_to_load_needs_what_to_load(run, capsys):
    assert run("models --dtype float16") == 2
    assert capsys.readouterr().err == (
        "kvlens: options of loading go with a model: give its name\n"
    )
