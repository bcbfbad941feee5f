"""Parity: what is off is found, in recording and in re-routing, and a real model's passes."""

from itertools import product

import pytest
import torch
import transformers as tf
from families import family
from zoo import TEXTS, tiny

import kvlens
from kvlens.checks.parity import check
from kvlens.rerouting import prefix


def test_check_can_fail():
    lm = tiny("llama")
    check(lm, TEXTS)  # what the bridge shows later is believed
    with lm.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_v", lambda v, hook: v + 1e-2)]):
        result = check(lm, TEXTS)
    assert not result.passed
    assert result.differences["v"] > 1e-3


def test_it_says_which_layer_is_off(zoo):
    lm = zoo("llama")
    check(lm, TEXTS)
    with lm.bridge.hooks(fwd_hooks=[("blocks.2.attn.hook_rot_k", lambda k, hook: k + 1e-2)]):
        result = check(lm, TEXTS)
    assert not result.recording_passed
    assert result.worst_layers["k"] == 2
    assert result.differences["k"] > 1e-3 > result.differences["k_pre"]


def test_wrong_re_routing_is_found_though_it_was_proven_before(zoo, monkeypatch):
    lm = zoo("llama")
    assert check(lm, TEXTS).rerouting_passed
    columns = prefix.with_prefix_columns
    monkeypatch.setattr(
        prefix, "with_prefix_columns", lambda mask, bias, *others: columns(mask, 0.0, *others)
    )
    result = check(lm, TEXTS)
    assert result.recording_passed
    assert not result.rerouting_passed
    assert not result.passed
    monkeypatch.undo()
    assert check(lm, TEXTS).passed


def attention_by_row_masks(module, query, key, value, mask, scaling=None, **options):
    """An attention function of others: its mask says which tokens are real, and no more."""
    seq_len = query.shape[2]
    seen = torch.ones((seq_len, seq_len), dtype=torch.bool).tril()
    if mask is not None:
        seen = seen & mask.bool()[:, None, None] | torch.eye(seq_len, dtype=torch.bool)
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, seen, scale=scaling, enable_gqa=True
    )
    return output.transpose(1, 2), None


def test_refused_re_routing_is_said_with_its_reason():
    tf.AttentionInterface.register("row_masks", attention_by_row_masks)
    tf.AttentionMaskInterface.register(
        "row_masks", lambda *args, attention_mask=None, **options: attention_mask
    )
    lm = tiny("llama")
    lm.hf.set_attn_implementation("row_masks")
    result = check(lm, TEXTS)
    assert result.recording_passed
    assert not result.passed
    raw = [proof for proof in result.proofs if proof.tree == "raw"]
    assert {proof.kernel for proof in raw} == {"row_masks"}
    assert all(proof.problem and not proof.passed for proof in raw)  # checked axes refuse first
    said = str(result).splitlines()
    for proof in raw:
        assert f"  {proof.position:25} FAILED: {proof.problem}" in said


def test_every_position_in_both_trees_is_proven(zoo):
    result = check(zoo("gemma3"), TEXTS)
    assert result.source.tree == "bridge"
    cases = [(proof.position, proof.tree) for proof in result.proofs]
    assert cases == list(product(("keep", "origin", "none"), ("raw", "bridge")))
    assert all(proof.layers == (0, 1, 2, 3) for proof in result.proofs)
    assert all(max(proof.differences) < 1e-5 for proof in result.proofs)


def test_layers_without_keys_are_not_proven():
    result = check(family("bamba"), TEXTS)
    assert result.passed
    assert {proof.layers for proof in result.proofs} == {(1, 3)}
    assert result.worst_layers["k"] in (1, 3)


@pytest.fixture(scope="module")
def result(zoo):
    return check(zoo("gpt2"), TEXTS)


def test_it_is_saved_and_loaded_equal(result, tmp_path):
    file = result.save(tmp_path / "check.json")
    again = kvlens.open(file)
    assert again == result
    assert isinstance(again, kvlens.CheckResult)
    assert again.passed
    assert repr(again) == str(result)


def test_it_says_what_was_found_where(result):
    lines = str(result).splitlines()
    assert lines[0] == "tiny-gpt2: GPT2LMHeadModel, float32"
    assert lines[1].startswith("recording, read from TransformerLens")
    worst = f"{result.differences['k']:.1e} at layer {result.worst_layers['k']}"
    assert any(line.split() == ["k", "passed:", *worst.split()] for line in lines)
    assert "re-routing of layers 0-3; largest relative difference, 1e-05 allowed" in lines
    assert lines[-1] == "passed: 5 texts, both padding sides"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"differences": {"hidden": 0.0}}, "not all of hidden, k, k_pre, v are compared"),
        ({"worst_layers": {"k": 0, "v": 0}}, "not every difference has its layer"),
        ({"tolerance": -1.0}, "tolerance: "),
        ({"worst_layers": dict.fromkeys(("hidden", "k", "k_pre", "v"), 4)}, "outside the model"),
    ],
)
def test_a_value_that_cannot_be_is_refused(result, tmp_path, changed, problem):
    file = result.model_copy(update=changed).save(tmp_path / "check.json")
    with pytest.raises(kvlens.InputError, match=problem) as error:
        kvlens.open(file)
    assert "\n" not in str(error.value)


def test_an_empty_proof_is_refused(result, tmp_path):
    empty = result.proofs[0].model_copy(update={"layers": (), "differences": ()})
    file = result.model_copy(update={"proofs": (empty,)}).save(tmp_path / "check.json")
    with pytest.raises(kvlens.InputError, match="a proof of re-routing is not of all layers"):
        kvlens.open(file)


@pytest.mark.real
def test_real_model_passes_check(smollm):
    result = check(smollm)
    assert max(result.differences.values()) < 2e-4
    assert result.passed
