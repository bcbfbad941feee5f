"""A trace in shards is the trace in memory; a stopped run goes on; what is damaged is refused."""

import os
import shutil

import numpy as np
import pytest
import torch
from families import family
from killed import killed_before
from safetensors.numpy import load_file, save_file

import kvlens
from kvlens import InputError
from kvlens.store.part import part_folder
from kvlens.tracing.shards import INDEX

TEXTS = [f"text {i} of a few words" + " and so on" * (i % 5) for i in range(60)]
SHARD = 25
FIRSTS = range(0, len(TEXTS), SHARD)
KINDS = ("hidden", "k", "k_pre", "v")
POINTS = ("last", "mean", "all")


@pytest.fixture(scope="module")
def llama(zoo):
    return zoo("llama")


@pytest.fixture(scope="module")
def folder(llama, tmp_path_factory):
    """A trace in three shards."""
    target = tmp_path_factory.mktemp("shards") / "trace"
    kvlens.record_shards(llama, TEXTS, target, shard=SHARD)
    return target


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("points", POINTS)
def test_one_shard_is_the_trace_in_memory_to_the_bit(llama, tmp_path, points):
    memory = kvlens.record(llama, TEXTS[:9], points=points)
    shards = kvlens.record_shards(llama, TEXTS[:9], tmp_path / "trace", points=points)
    assert set(shards.tensors) > set()
    for layer in memory.layers:
        for kind in (*KINDS, "kv"):
            np.testing.assert_array_equal(shards.states(layer, kind), memory.states(layer, kind))
        assert shards.heads(layer, "v") == memory.heads(layer, "v")
    for name in memory.tensors:
        assert torch.equal(getattr(shards, name), memory.tensors[name])
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    assert memory.save(one).read_bytes() == shards.save(other).read_bytes()


@pytest.mark.parametrize("points", POINTS)
def test_each_of_several_shards_is_a_trace_of_its_texts(llama, tmp_path, points):
    shards = kvlens.record_shards(llama, TEXTS, tmp_path / "trace", points=points, shard=SHARD)
    parts = [kvlens.record(llama, TEXTS[at : at + SHARD], points=points) for at in FIRSTS]
    for layer in shards.layers:
        for kind in KINDS:
            truth = np.concatenate([part.states(layer, kind) for part in parts])
            np.testing.assert_array_equal(shards.states(layer, kind), truth)
    assert shards.n_tokens == sum((part.n_tokens for part in parts), ())
    assert shards.token_hashes == sum((part.token_hashes for part in parts), ())
    assert torch.equal(shards.position_zero, torch.cat([part.position_zero for part in parts]))


def test_layers_of_other_sizes_and_fewer_kinds(tmp_path):
    lm = family("gemma4_text")
    keep, layers = ("v", "hidden"), (0, lm.info.n_layers - 1)
    memory = kvlens.record(lm, TEXTS[:5], keep=keep, layers=layers)
    assert not memory.holds("position_zero")
    shards = kvlens.record_shards(lm, TEXTS[:5], tmp_path / "t", keep=keep, layers=layers)
    for layer in memory.key_layers:
        assert torch.equal(shards.of_heads(layer, "v"), memory.of_heads(layer, "v"))
    assert not shards.holds("k")
    assert not shards.holds("position_zero")


def test_what_measures_a_trace_measures_shards(llama, folder, tmp_path):
    shards = kvlens.Trace.load(folder)
    memory = kvlens.Trace.load(shards.save(tmp_path / "trace.safetensors"))
    assert kvlens.estimate(shards, draws=2) == kvlens.estimate(memory, draws=2)
    embeddings = np.random.default_rng(0).normal(size=(len(TEXTS), 4))
    assert kvlens.kv_lens(shards, embeddings) == kvlens.kv_lens(memory, embeddings)
    prefix, truth = kvlens.static_prefix(shards), kvlens.static_prefix(memory)
    assert all(torch.equal(prefix.tensors[name], truth.tensors[name]) for name in truth.tensors)
    for place in (folder, folder / INDEX):
        held = kvlens.calibration(place)
        assert torch.equal(held.texts("key", 2), memory.of_heads(2, "k_pre"))
    assert kvlens.open(folder / INDEX).n_tokens == memory.n_tokens


def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_bytes(llama, tmp_path):
    texts = TEXTS[:5]
    kvlens.record_shards(llama, texts, tmp_path / "whole", shard=3)
    kills = 0
    for n in range(1, 60, 3):
        target = tmp_path / f"run-{n}" / "trace"

        def work(resume=False, target=target):
            kvlens.record_shards(llama, texts, target, shard=3, resume=resume)

        if not killed_before(n, work):
            break
        kills += 1
        work(resume=True)
        assert content(target) == content(tmp_path / "whole")
        assert os.listdir(target.parent) == ["trace"]
    assert kills > 6


def test_what_is_finished_is_not_recorded_again(llama, folder, tmp_path):
    target = tmp_path / "trace"

    def stop(done, total):
        if done > 2 * SHARD:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kvlens.record_shards(llama, TEXTS, target, shard=SHARD, progress=stop)
    assert not target.exists()
    with pytest.raises(InputError, match="has a stopped run: `resume=True` continues it"):
        kvlens.record_shards(llama, TEXTS, target, shard=SHARD)
    with pytest.raises(InputError, match="has a run with other shard"):
        kvlens.record_shards(llama, TEXTS, target, shard=7, resume=True)
    with pytest.raises(InputError, match="has a run with other texts"):
        kvlens.record_shards(llama, TEXTS[1:], target, shard=SHARD, resume=True)
    seen = []
    tell = lambda done, total: seen.append(done)  # noqa: E731
    kvlens.record_shards(llama, TEXTS, target, shard=SHARD, resume=True, progress=tell)
    assert seen[:2] == [SHARD, 2 * SHARD]
    assert content(target) == content(folder)
    assert not part_folder(target).exists()


def test_a_folder_that_is_there_is_not_replaced(llama, folder, tmp_path):
    before = content(folder)
    for resume, overwrite in ((False, False), (False, True), (True, False)):
        with pytest.raises(InputError, match="exists: give another `target`"):
            kvlens.record_shards(
                llama, TEXTS[:3], folder, resume=resume, overwrite=overwrite, shard=SHARD
            )
    assert content(folder) == before
    again = kvlens.record_shards(llama, TEXTS, folder, resume=True, shard=SHARD)
    assert again.texts.n == len(TEXTS)
    (tmp_path / "empty").mkdir()
    kvlens.record_shards(llama, TEXTS[:3], tmp_path / "empty")


def test_a_file_among_the_shards_that_is_not_as_it_should_be_is_refused(folder, tmp_path):
    target = tmp_path / "trace"
    shard = target / "000000025.safetensors"

    def change(**arrays):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)
        save_file({**load_file(shard), **arrays}, shard)

    whole = load_file(folder / shard.name)
    v = whole["v.2"].copy()
    v[3, 0, 1] = np.nan
    for arrays, problem in (
        ({"v.2": whole["v.2"][:, :1].copy()}, r"v\.2 is missing, or not alike in all shards"),
        ({"v.2": whole["v.2"].astype("f8")}, r"v\.2 of 000000025\.safetensors is of type F64"),
        ({"n_tokens": whole["n_tokens"][1:].copy()}, "does not have n_tokens of 25 texts"),
        ({"n_tokens": -whole["n_tokens"]}, "a text of it has no tokens"),
        ({"k.9": whole["v.2"]}, None),
    ):
        change(**arrays)
        if problem is None:
            assert "k.9" not in kvlens.Trace.load(target).tensors
            continue
        with pytest.raises(InputError, match=problem):
            kvlens.Trace.load(target)
    change(**{"v.2": v})
    with pytest.raises(InputError, match=r"v\.2 has NaN or infinity"):
        kvlens.Trace.load(target).states(2, "v")
    shard.unlink()
    with pytest.raises(InputError, match=r"trace is not a valid trace: cannot read the shard"):
        kvlens.Trace.load(target)
    (target / INDEX).unlink()
    with pytest.raises(InputError, match="cannot read the index of a trace"):
        kvlens.Trace.load(target)


def test_verify_reads_every_shard(folder, tmp_path):
    target = shutil.copytree(folder, tmp_path / "trace")
    checks = {(check.what, check.verdict) for check in kvlens.verify(target).checks}
    assert ("shards", "agrees") in checks
    shard = target / "000000025.safetensors"
    good = bytearray(shard.read_bytes())
    good[-1] ^= 1
    shard.write_bytes(good)
    checks = [each for each in kvlens.verify(target).checks if each.what == "shard"]
    assert [each.verdict for each in checks] == ["differs"]


def test_a_layer_is_read_without_the_others(folder, monkeypatch):
    from kvlens.tracing import shards

    read = []
    plain = shards._tensor

    def noted(file, name):
        read.append(name)
        return plain(file, name)

    monkeypatch.setattr(shards, "_tensor", noted)
    trace = kvlens.Trace.load(folder)
    repr(trace)
    assert len(set(read)) <= 3  # n_tokens, token_hashes; the tests' check of types looks at one
    read.clear()
    trace.states(2, "v")
    assert set(read) == {"v.2"}
