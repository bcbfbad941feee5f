"""Several columns, of the tokens that a probe query ranks highest, against the oracle in float64.

Each option alone, on every family, is `test_controls`'.
"""

import itertools

import pytest
import torch
from brute_force import bridge_run
from families import family
from family_cases import TOLERANCE, difference, layers_of, padded
from family_oracle import Controls, oracle
from hypothesis import given
from hypothesis import strategies as st
from zoo import tiny

import kvlens
from kvlens import InputError, reroute
from kvlens.rerouting.probe_query import highest

LENGTHS = (9, 1, 2, 6)  # fewer tokens than columns, among others
FAMILIES = ("llama", "gemma3_text", "qwen3", "gpt_neox", "gpt2")
# By themselves, or with values that heads share: they do not attend to what they cache.
REFUSED = ("gptj", "diffllama")
COLUMNS = 4


def rows():
    generator = torch.Generator().manual_seed(13)
    return [torch.randint(3, 300, (length,), generator=generator) for length in LENGTHS]


def rerouted(lm, texts, side, position="keep", bias=1.0, **options):
    ids, mask, positions, spans = padded(texts, side)
    with reroute(lm, layers_of(lm), bias, position, **options), torch.no_grad():
        output = lm.base(ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return [output.last_hidden_state[row, span] for row, span in enumerate(spans)]


@pytest.mark.parametrize("position", ["keep", "origin", "none"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_with_texts_shorter_than_the_columns(name, position):
    lm = family(name)
    biases = dict.fromkeys(layers_of(lm), 0.5)
    controls = Controls(columns=COLUMNS)
    truth = [oracle(name).states(row, biases, position, controls) for row in rows()]
    for side in ("right", "left"):
        options = {"source": "probe", "columns": COLUMNS}
        states = rerouted(lm, rows(), side, position, 0.5, **options)
        assert difference(states, truth) < TOLERANCE, side


def test_more_columns_are_another_prefix():
    lm = tiny("llama")
    texts = rows()[:1]
    found = [rerouted(lm, texts, "right", source="probe", columns=n)[0] for n in (1, 2, 8)]
    assert all((one - two).abs().max() > 1e-3 for one, two in itertools.pairwise(found))


@pytest.mark.parametrize("side", ["left", "right"])
def test_where_one_token_is_ranked_it_is_the_final_one(side):
    lm = tiny("qwen3")
    texts = rows()[1:3]
    final = rerouted(lm, texts, side)
    probed = rerouted(lm, texts, side, source="probe", columns=COLUMNS)
    assert difference(probed, final) < TOLERANCE


def test_the_bridge_has_the_columns_first():
    lm = tiny("llama")
    ids, mask, positions, spans = padded(rows(), "right")
    name = "blocks.1.attn.hook_pattern"
    _ = lm.bridge
    with reroute(lm, [1, 2], source="probe", columns=COLUMNS):
        bridged, seen = bridge_run(lm, ids, mask, [name])
        with torch.no_grad():
            raw = lm.base(ids, attention_mask=mask, position_ids=positions, use_cache=False)
    cut = [bridged[row, span] for row, span in enumerate(spans)]
    truth = [raw.last_hidden_state[row, span] for row, span in enumerate(spans)]
    assert difference(cut, truth) < TOLERANCE
    patterns = seen[name]
    assert patterns.shape[-1] == COLUMNS + ids.shape[1]
    n_columns = [(patterns[row, 0, spans[row].start, :COLUMNS] > 0).sum() for row in range(4)]
    assert [int(n) for n in n_columns] == [COLUMNS, 1, 1, COLUMNS]


def test_queries_that_are_all_alike_count_the_same():
    queries = torch.ones(1, 2, 3, 4)
    keys = torch.zeros(1, 1, 3, 4)
    keys[0, 0, 1] = 1
    places = highest(queries, keys, torch.tensor([[False, True, True]]), 3)
    assert places[0, 0].tolist() == [1, 2, 0]


def test_equal_keys_are_taken_in_their_order():
    queries = torch.randn(1, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    places = highest(queries, torch.ones(1, 1, 5, 4), torch.ones(1, 5, dtype=torch.bool), 2)
    assert places[0, 0].tolist() == [0, 1]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8).filter(any), st.integers(0, 2**32 - 1))
def test_rounding_does_not_decide_between_equal_keys(scores, seed):
    """Scores that differ by whole numbers and by rounding, against a plain sort of the numbers."""
    generator = torch.Generator().manual_seed(seed)
    rounding = 1e-7 * torch.randn(len(scores), generator=generator)
    keys = (torch.tensor(scores, dtype=torch.float32) + rounding)[None, None, :, None]
    ranked = torch.ones(1, len(scores), dtype=torch.bool)
    places = highest(torch.ones_like(keys), keys, ranked, len(scores))[0, 0].tolist()
    assert places == sorted(range(len(scores)), key=lambda place: -scores[place])


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_attend_to_what_it_caches_is_refused_by_name(name):
    lm = family(name)
    with (
        pytest.raises(InputError, match=rf"layer \d of tiny-{name} does not attend") as refusal,
        reroute(lm, layers_of(lm), source="probe"),
    ):
        pass
    assert "\n" not in str(refusal.value)


def test_attention_is_read_of_one_column():
    lm = tiny("llama")
    route = kvlens.Route.of(lm.info, [1], source="probe", columns=2)
    with pytest.raises(InputError, match="the route has 2 columns, and attention is read of one"):
        kvlens.attention_patterns(lm, "a text", route)
