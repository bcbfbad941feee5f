"""Re-routing and recording on a GPU, against brute force and against the CPU."""

import warnings

import numpy as np
import pytest
import torch
from brute_force import LAYERS, brute_force, model, padded, raw_hidden, sequences
from gpu import DEVICE, NEEDED, ON_CUDA, on_device
from model_folders import saved
from zoo import TEXTS

import kvlens
from kvlens import reroute
from kvlens.models.causal_kernel import causal_attention, kernel_of
from kvlens.rerouting.merge import merged
from kvlens.store.notices import Notice

pytestmark = NEEDED
# Of the largest number: float32 sums in another order, bfloat16 keeps 8 bits.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
OF_KERNEL = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


def relative(found, truth):
    return float((found.double().cpu() - truth.double().cpu()).abs().max() / truth.abs().max())


@ON_CUDA
@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [
        ("flash", torch.bfloat16),
        ("efficient", torch.bfloat16),
        ("efficient", torch.float32),
    ],
)
@pytest.mark.parametrize("d_head", [8, 64, 128])
def test_a_merged_prefix_is_one_softmax(kernel, dtype, d_head):
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes):
        return torch.randn(2, *sizes, d_head, generator=generator).to(DEVICE, dtype)

    query, key, value = draw(4, 77), draw(2, 77), draw(2, 77)
    prefix_key, prefix_value = draw(2, 3), draw(2, 3)
    scaling = d_head**-0.5
    q, k, v, pk, pv = (each.double() for each in (query, key, value, prefix_key, prefix_value))
    k, v, pk, pv = (each.repeat_interleave(2, dim=1) for each in (k, v, pk, pv))
    prefix = q @ pk.mT * scaling
    later = torch.ones(77, 77, dtype=torch.bool, device=DEVICE).triu(1)
    text = (q @ k.mT * scaling).masked_fill(later, -torch.inf)
    expected = torch.cat([prefix, text], -1).softmax(-1) @ torch.cat([pv, v], 2)
    plain = causal_attention(query, key, value, scaling, kernel)
    assert relative(plain.log_sum_exp, text.logsumexp(-1)) < OF_KERNEL[dtype]
    found = merged(plain, prefix.float(), prefix_value)
    assert relative(found, expected) < OF_KERNEL[dtype]


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "phi3"])
def test_equal_to_brute_force(name, side, dtype):
    lm = on_device(name, dtype)
    rows = sequences()
    truth = [brute_force(name, row, dict.fromkeys(LAYERS, 1.0))[0] for row in rows]
    plain = [raw_hidden(model(name), row[None], None, None)[0] for row in rows]
    ids, mask, positions, spans = padded(rows, side)
    with reroute(lm, LAYERS, 1.0):
        hidden = raw_hidden(lm, *(each.to(DEVICE) for each in (ids, mask, positions)))
    texts = [states[span] for states, span in zip(hidden, spans, strict=True)]
    found, expected, other = (torch.cat(each).cpu() for each in (texts, truth, plain))
    assert relative(found, expected) < TOLERANCE[dtype]
    assert relative(other, expected) > 3 * TOLERANCE[dtype], "re-routing would not be noticed"


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_vectors_are_those_of_the_cpu(dtype):
    of_cpu = kvlens.Encoder(model("llama"), layers=LAYERS).encode(TEXTS)
    found = kvlens.Encoder(on_device("llama", dtype), layers=LAYERS).encode(TEXTS)
    assert relative(torch.tensor(found), torch.tensor(of_cpu)) < TOLERANCE[dtype]


def test_a_model_that_accelerate_spreads(tmp_path):
    folder = saved(tmp_path, "llama")
    spread = kvlens.load(folder, device_map="auto")
    whole = kvlens.load(folder, device=DEVICE)
    vectors = [kvlens.Encoder(lm, layers=(1, 2)).encode(TEXTS) for lm in (spread, whole)]
    assert np.allclose(*vectors, atol=1e-5)


@ON_CUDA
def test_the_kernel_is_that_of_the_dtype():
    states = torch.zeros(1, 1, 1, 8, device=DEVICE)
    assert kernel_of(states) == "efficient"
    assert kernel_of(states.bfloat16()) in ("flash", "efficient")


@pytest.mark.parametrize("points", ["last", "mean", "all"])
def test_recorded_states_are_those_of_the_cpu(points):
    truth = kvlens.record(model("llama"), TEXTS, points=points)
    found = kvlens.record(on_device("llama"), TEXTS, points=points)
    for name, tensor in truth.tensors.items():
        assert torch.allclose(found.tensors[name], tensor, atol=1e-3, rtol=1e-3), name


@ON_CUDA
def test_recording_waits_for_the_device_once_a_batch():
    """Whichever layers and kinds are kept: all of them come over in one copy."""
    lm = on_device("llama")
    last = lm.info.n_layers - 1
    kvlens.record(lm, TEXTS)  # where states are read is tried once
    n_waits = []
    for options in ({"layers": (last,), "keep": ("v",)}, {}):
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                kvlens.record(lm, TEXTS, batch_tokens=10**6, **options)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        n_waits.append(sum("synchroniz" in str(each.message) for each in caught))
    assert n_waits[0] == n_waits[1]


@ON_CUDA
def test_batches_are_halved_where_memory_is_really_short():
    lm = on_device("llama")
    texts = ["x" * 240 + str(n) for n in range(2000)]
    expected = kvlens.Encoder(lm, "mean", batch_tokens=2048).encode(texts)
    total = torch.cuda.get_device_properties(0).total_memory
    most = torch.cuda.memory_allocated() + (100 << 20)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(most / total)
    try:
        with pytest.warns(Notice, match="memory is short for a batch of"):
            found = kvlens.Encoder(lm, "mean", batch_tokens=10**7).encode(texts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert np.allclose(found, expected, atol=1e-4)


@ON_CUDA
def test_a_batch_of_the_chosen_size_fits():
    lm = on_device("llama")
    encoder = kvlens.Encoder(lm, "mean")
    free, _ = torch.cuda.mem_get_info()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    encoder.encode(["x" * 200 + str(n) for n in range(500)])
    assert torch.cuda.max_memory_allocated() - before < free
