"""`kvlens record` on a small model: what is written, what reads it, and what is refused."""

import json
import shutil

import numpy as np
import pytest

import kvlens

RECORD = "record @llama --texts @texts.txt --shard 30"


@pytest.fixture(scope="module")
def recorded(place, run):
    assert run(f"{RECORD} -o @recorded") == 0
    return place / "recorded"


def test_it_writes_shards_of_all_texts_of_a_file(recorded, place):
    names = sorted(path.name for path in recorded.iterdir())
    shards = [f"{first:09d}.safetensors" for first in (0, 30, 60)]
    assert names == [*shards, "record.toml", "trace.json"]
    assert not (place / "recorded.part").exists()
    trace = kvlens.Trace.load(recorded)
    lm = kvlens.load(place / "llama")
    texts = kvlens.read_texts(place / "texts.txt")
    assert trace.texts == texts.info()
    memory = kvlens.record(lm, texts.items[30:60])
    np.testing.assert_array_equal(trace.states(2, "kv")[30:60], memory.states(2, "kv"))


@pytest.mark.slow
def test_profile_and_lens_read_it(recorded, place, run, capsys):
    assert run("profile @llama --trace @recorded -o @of-trace") == 0
    profile = kvlens.IDProfile.load(place / "of-trace" / "profile.json")
    trace = kvlens.Trace.load(recorded)
    assert profile.estimates == kvlens.estimate(trace).estimates
    prefix = kvlens.StaticPrefix.load(place / "of-trace" / "prefix.safetensors")
    assert prefix.texts == trace.texts
    lens = "lens @llama --layers 1 --methods mean --trace @recorded --texts @texts.txt"
    assert run(f"{lens} -o @lens-of-trace") == 0
    found = kvlens.KVLens.load(place / "lens-of-trace" / "kv_lens.json")
    assert found.spectra == kvlens.kv_lens(trace).spectra
    (place / "others.txt").write_text("\n".join(f"text {i}" for i in range(80)))
    assert run(f"{lens.replace('texts.txt', 'others.txt')} -o @x") == 2
    assert "--trace is of other texts than" in capsys.readouterr().err
    assert run("profile @gpt2 --trace @recorded -o @y") == 2
    assert "--trace of" in capsys.readouterr().err
    assert run("lens @llama --words --trace @recorded -o @y") == 2
    assert "give no --trace" in capsys.readouterr().err


def test_a_trace_is_replaced_only_where_that_is_said(recorded, place, run, capsys):
    shutil.copytree(recorded, place / "old")
    (place / "old" / "notes.txt").write_text("mine")
    assert run(f"{RECORD} -o @old") == 2
    assert "exists: give another -o, or --overwrite" in capsys.readouterr().err
    line = f"{RECORD} -o @old --overwrite --n 20 --keep v --layers 1-2 --json"
    assert run(line) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["texts"], data["truncated"]) == (20, 0)
    trace = kvlens.Trace.load(place / "old")
    assert list(trace.tensors) == ["v.1", "v.2"]
    names = sorted(path.name for path in (place / "old").iterdir())
    assert names == ["000000000.safetensors", "notes.txt", "record.toml", "trace.json"]
    assert not (place / "old.part").exists()
    assert run(f"{RECORD} -o @old --resume") == 2


def test_verify_reads_it(recorded, run, capsys):
    assert run("verify @recorded") == 0
    out = capsys.readouterr().out
    assert "shards" in out
