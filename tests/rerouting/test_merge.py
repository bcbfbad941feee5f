"""A prefix that is merged, against one softmax over everything; that every family's is exact, the
tests of families and controls say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import tiny

import kvlens
from kvlens import InputError, reroute
from kvlens.models.causal_kernel import causal_attention
from kvlens.rerouting.merge import MERGING, merged

N = 250
FUSED = "_scaled_dot_product_flash_attention_for_cpu"


class Watch(TorchDispatchMode):
    """Notes which operators run, and the largest tensor that one of them gives."""

    def __init__(self):
        super().__init__()
        self.names = []
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        self.names.append(function.overloadpacket.__name__)
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return output


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 999),
    columns=st.integers(1, 4),
    seq_len=st.integers(1, 9),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_merging_is_one_softmax_over_prefix_and_text(seed, columns, seq_len, scale):
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes):
        return scale * torch.randn(2, *sizes, 8, generator=generator)

    query, key, value = draw(4, seq_len), draw(2, seq_len), draw(2, seq_len)
    prefix_key, prefix_value = draw(2, columns), draw(2, columns)
    hidden = torch.rand(2, 4, seq_len, columns, generator=generator) < 0.3
    by_query = [each.repeat_interleave(2, dim=1) for each in (key, value, prefix_key, prefix_value)]
    every_key = torch.cat([by_query[2], by_query[0]], dim=2)
    every_value = torch.cat([by_query[3], by_query[1]], dim=2)
    logits = query @ every_key.mT * 8**-0.5
    later = torch.ones(seq_len, seq_len, dtype=torch.bool).triu(1).expand(2, 4, -1, -1)
    unseen = torch.cat([hidden, later], dim=-1)
    expected = logits.masked_fill(unseen, -torch.inf).softmax(-1) @ every_value
    plain = causal_attention(query, key, value, 8**-0.5)
    found = merged(plain, logits[..., :columns].masked_fill(hidden, -torch.inf), prefix_value)
    assert torch.allclose(found, expected, atol=1e-5 * scale, rtol=1e-4)


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


def encoder(lm):
    raw = kvlens.PROMPTS["raw"]
    return kvlens.Encoder(lm, "kv_embedding", [1, 2], document=raw, query=raw)


def test_nothing_of_length_times_length_is_made(lm):
    texts = ["x" * N, "y" * (N - 5)]
    encoder(lm).encode(texts)  # which proves that it is exact, and holds its own tensors
    with Watch() as watch:
        encoder(lm).encode(texts)
    assert watch.names.count(FUSED) == 2
    assert watch.largest < N * N
    with Watch() as watch, reroute(lm, [1, 2]):
        ids = torch.full((2, N), 7)
        mask = torch.ones_like(ids)
        mask[1, :5] = 0
        lm(ids, mask, logits_to_keep=1)
    assert watch.largest >= N * N, "padding on the left has to be masked"


def test_modules_keep_their_own_attention_function(lm):
    config = lm.attention(1).config
    own = config._attn_implementation
    assert own != MERGING
    with reroute(lm, [1]) as rerouting, torch.no_grad():
        lm.base(torch.full((1, 9), 7), use_cache=False)
        assert config._attn_implementation == own
        rerouting.last = torch.tensor([99])  # which breaks inside the attention module
        with pytest.raises((IndexError, RuntimeError)):
            lm.base(torch.full((1, 9), 7), use_cache=False)
        rerouting.last = torch.tensor([8])
        for _ in range(2):
            lm.base(torch.full((1, 9), 7), use_cache=False)
            assert config._attn_implementation == own
    assert config._attn_implementation == own


def test_what_needs_a_gradient_is_not_merged(lm):
    embedded = lm.base.get_input_embeddings()(torch.full((1, 9), 7)).detach()

    def last(embedded):
        with reroute(lm, [1]) as rerouting:
            rerouting.last = torch.tensor([8])
            return lm.base(inputs_embeds=embedded, use_cache=False).last_hidden_state[0, 3].sum()

    given = embedded.clone().requires_grad_()
    with Watch() as watch:
        last(given).backward()
    direction = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(1))
    step = 1e-3
    with torch.no_grad():
        ahead, behind = last(embedded + step * direction), last(embedded - step * direction)
    expected = float(ahead - behind) / (2 * step)
    assert float((given.grad * direction).sum()) == pytest.approx(expected, rel=2e-2)
    assert "cat" in watch.names


def test_a_filled_cache_is_refused(lm):
    ids = torch.full((1, 5), 7)
    with torch.no_grad():
        cache = lm.base(ids, use_cache=True).past_key_values
    with reroute(lm, [1]), torch.no_grad(), pytest.raises(InputError, match="whole texts"):
        lm.base(ids, past_key_values=cache, use_cache=True)
