"""Low-rank cuts, against copies of the raw model whose weights are replaced by their cut SVD."""

import copy

import numpy as np
import pytest
import torch
from families import family
from zoo import TEXTS, byte_tokenizer, tiny

import kvlens
from kvlens import InputError, LowRank
from kvlens.analysis.kv_projections import kv_projections
from kvlens.analysis.low_rank_cuts import progressive_shares

SHARES = (0.25, 0.5)
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3", "gpt2", "phi3", "neox")
D = 8  # of a head


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


@pytest.fixture(scope="module")
def found(lm):
    return kvlens.low_rank(lm, TEXTS, SHARES, batch_tokens=96)


def weight_of(block, kind):
    """The matrix ``[n, d_model]`` of K or V, and what puts another one in its place."""
    if hasattr(block, "self_attn") and hasattr(block.self_attn, "k_proj"):
        weight = getattr(block.self_attn, f"{kind}_proj").weight
        return weight, lambda new: weight.copy_(new)
    if hasattr(block, "self_attn"):  # phi3: rows of queries, keys, values
        weight = block.self_attn.qkv_proj.weight
        start = {"k": 4 * D, "v": 6 * D}[kind]
        return weight[start : start + 2 * D], lambda new: weight[start : start + 2 * D].copy_(new)
    if hasattr(block, "attn"):  # gpt2: columns
        weight = block.attn.c_attn.weight
        part = {"k": slice(32, 64), "v": slice(64, 96)}[kind]
        return weight[:, part].T, lambda new: weight[:, part].copy_(new.T)
    weight = block.attention.query_key_value.weight  # neox: head by head
    by_head = weight.view(4, 3, D, 32)[:, {"k": 1, "v": 2}[kind]]
    return by_head.flatten(0, 1), lambda new: by_head.copy_(new.view_as(by_head))


def cut_copy(lm, ranks):
    """A copy of the raw model in which (kind, layer) has that rank."""
    hf = copy.deepcopy(lm.hf)
    other = kvlens.LanguageModel.wrap(hf, byte_tokenizer(), name="cut")
    with torch.no_grad():
        for (kind, layer), rank in ranks.items():
            weight, put = weight_of(other.blocks[layer], kind)
            left, values, right = np.linalg.svd(weight.double().numpy(), full_matrices=False)
            put(torch.from_numpy((left[:, :rank] * values[:rank]) @ right[:rank]))
    return other


def vectors(lm):
    return kvlens.Encoder(lm, layers=()).encode(TEXTS).astype(float)


def moved(lm, ranks):
    cosines = (vectors(lm) * vectors(cut_copy(lm, ranks))).sum(1)
    return cosines.mean(), cosines.std(ddof=1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_cut_is_a_copy_with_the_weight_replaced(name, zoo):
    lm = zoo(name)
    found = kvlens.low_rank(lm, TEXTS, SHARES)
    assert found.layers == (0, 1, 2, 3)
    assert min(cut.cosine for cut in found.cuts) < 0.99
    for layer in (0, 3):
        for kind in "kv":
            for cut in found.cuts_of(kind, layer):
                cosine, spread = moved(lm, {(kind, layer): cut.rank})
                assert cut.cosine == pytest.approx(cosine, abs=2e-6), (kind, layer, cut.rank)
                assert cut.spread == pytest.approx(spread, abs=5e-6)


@pytest.mark.parametrize("way", ["progressive", "uniform"])
def test_a_schedule_cuts_all_at_once(lm, found, way):
    for schedule in found.schedules_of(way):
        ranks = {
            (kind, layer): max(1, round(share * 2 * D))
            for layer, share in enumerate(schedule.shares)
            for kind in "kv"
        }
        assert schedule.kept == pytest.approx(sum(ranks.values()) / (8 * 2 * D))
        assert schedule.cosine == pytest.approx(moved(lm, ranks)[0], abs=2e-6)
        assert schedule.shares == tuple(sorted(schedule.shares, reverse=True))


def test_conditions_are_those_of_the_weights(lm, found):
    for each in found.conditions:
        weight, _ = weight_of(lm.blocks[each.layer], each.kind)
        assert each.number == pytest.approx(np.linalg.cond(weight.numpy()), rel=1e-3)


def test_shares_go_by_the_logarithm_of_cumulative_conditions():
    e = float(np.e)
    shares = progressive_shares([e, e**2, e**3], 0.3, 0.9)  # 6, 5 and 3 from each layer upwards
    assert shares == pytest.approx((0.9, 0.9 - 0.6 / 3, 0.3))
    assert progressive_shares([5.0], 0.3, 0.9) == (0.9,)


def test_nothing_is_left_behind(lm):
    before = {name: weight.clone() for name, weight in lm.hf.named_parameters()}
    plain = vectors(lm)
    with pytest.raises(RuntimeError, match="stop"):
        kvlens.low_rank(lm, TEXTS, SHARES, progress=stop)
    assert all(torch.equal(before[name], weight) for name, weight in lm.hf.named_parameters())
    assert not any(module._forward_hooks for module in lm.hf.modules())
    assert np.array_equal(vectors(lm), plain)


def stop(done, total):
    raise RuntimeError("stop")


def test_the_share_needed_is_that_from_which_on_nothing_moves(found):
    kind, layer = "v", 1
    low, high = found.cuts_of(kind, layer)
    cases = ((0.995, 0.999, low.share), (0.9, 0.999, high.share), (0.995, 0.9, 1))
    for of_low, of_high, needed in cases:
        cosines = {low: of_low, high: of_high}
        cuts = tuple(
            cut.model_copy(update={"cosine": cosines.get(cut, cut.cosine)}) for cut in found.cuts
        )
        assert found.model_copy(update={"cuts": cuts}).share_needed(kind, layer) == needed


def test_it_loads_as_it_was_saved_and_prints_a_line_a_layer(found, tmp_path):
    assert kvlens.open(found.save(tmp_path / "low_rank.json")) == found
    assert LowRank.load(tmp_path / "low_rank.json") == found
    assert len(str(found).splitlines()) == 3 + 4 + 2 * len(SHARES)


def test_half_precision_has_the_same_rows():
    lm = tiny("phi3")
    rows = [each.rows.tolist() for each in kv_projections(lm)]
    lm.hf.to(torch.bfloat16)
    assert [each.rows.tolist() for each in kv_projections(lm)] == rows


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deepseek_v3", "the keys of layer 0 of tiny-deepseek_v3 are not what one linear module"),
        ("gemma4_unified_text", "keys and values of layer 1 of .* are made of one weight"),
    ],
)
def test_what_no_linear_module_makes_is_refused_by_name(name, message):
    with pytest.raises(InputError, match=message) as refusal:
        kvlens.low_rank(family(name), TEXTS, SHARES)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("shares", [[], [0.0, 0.5], [0.5, 1.0]])
def test_shares_are_parts_of_the_rank(lm, shares):
    with pytest.raises(InputError, match="`shares` are of the full rank"):
        kvlens.low_rank(lm, TEXTS, shares)
