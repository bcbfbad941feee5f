"""Readout: any block, against the states that raw transformers gives out."""

import pytest
import torch
from brute_force import brute_force, reference
from method_cases import ARCHITECTURES, AWKWARD, batch_of, build, close, embed, ids_of, model

from kvlens import Encoder
from kvlens.layers.readout import block_of
from kvlens.methods.registry import get_method

TEXTS = AWKWARD[:3]


def final_norm(lm):
    """The module behind the blocks, by the names that these families have."""
    names = ("norm", "ln_f", "final_layer_norm")
    return next(getattr(lm.base, name) for name in names if hasattr(lm.base, name))


def states_by_block(lm, text):
    """What comes out of each block, noted by hooks of this test alone."""
    outputs = []

    def note(module, args, output):
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_hook(note) for block in lm.blocks]
    with torch.no_grad():
        lm.base(torch.tensor([ids_of(lm, text)]))
    for handle in handles:
        handle.remove()
    return [states[0] for states in outputs]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_block_with_and_without_the_final_norm(architecture):
    lm = model(architecture)
    by_text = [states_by_block(lm, text) for text in TEXTS]
    for block in range(4):
        for side in ("left", "right"):
            bare = build("mean", lm, readout=block, final_norm=False)
            expected = [states[block].mean(0) for states in by_text]
            close(embed(bare, lm, TEXTS, side=side), expected)
            normed = build("last_token", lm, readout=block)
            with torch.no_grad():
                expected = [final_norm(lm)(states[block])[-1] for states in by_text]
            close(embed(normed, lm, TEXTS, side=side), expected)


@pytest.mark.parametrize("architecture", ["gemma2", "gpt2", "llama"])
def test_a_rerouted_pass_is_read_anywhere(architecture):
    lm = model(architecture)
    settings = {"layers": (0, 2), "pooling": "last", "readout": 2}
    method = build("kv_embedding", lm, **settings)
    base, _ = reference(architecture)
    blocks = next(child for child in base.children() if isinstance(child, torch.nn.ModuleList))
    noted = []
    handle = blocks[2].register_forward_hook(lambda module, args, output: noted.append(output))
    for text in TEXTS:
        row = torch.tensor(ids_of(lm, method.document.render(text)))
        brute_force(architecture, row, {0: 1.0, 2: 1.0})
    handle.remove()
    states = [output[0] if isinstance(output, tuple) else output for output in noted]
    with torch.no_grad():
        expected = [final_norm(lm)(each)[0, -1] for each in states]
    close(embed(method, lm, TEXTS), expected)


def test_the_plain_readout_changes_no_bit_and_no_record(lm):
    plain = build("mean", lm)
    last = build("mean", lm, readout=lm.info.n_layers - 1)
    assert last == plain == build("mean", lm, readout=1.0)
    assert "readout" not in plain.settings()
    with torch.no_grad():
        batch = batch_of(plain, lm, AWKWARD)
        whole = lm.base(batch.ids, position_ids=batch.positions, use_cache=False)
        chosen = batch.mask.bool()[..., None]
        zero = torch.zeros(())
        truth = torch.where(chosen, whole.last_hidden_state, zero).sum(1) / chosen.sum(1)
        assert torch.equal(plain.embed(lm, batch), truth)
        # The final norm of the noted output, by a pass of its own, is that of the whole pass.
        reading = build("mean", lm, readout=-1, final_norm=False)
        assert reading.settings()["final_norm"] is False


def test_blocks_above_are_not_run(zoo):
    lm = zoo("llama")
    seen = []
    handle = lm.blocks[2].register_forward_hook(lambda *ignored: seen.append(2))
    embed(build("mean", lm, readout=1, final_norm=False), lm, TEXTS)
    assert not seen
    embed(build("mean", lm, readout=2, final_norm=False), lm, TEXTS)
    handle.remove()
    assert seen == [2]


@pytest.mark.parametrize(
    ("readout", "n_layers", "block"),
    [
        *((0, 30, 0), (-1, 30, -1), (29, 30, -1), (-2, 30, 28), (-30, 30, 0), (0, 1, -1)),
        *((0.5, 30, 14), (1.0, 30, -1), (0.01, 30, 0), (0.7, 18, 12), (0.99, 30, -1)),
    ],
)
def test_which_block(readout, n_layers, block):
    assert block_of(readout, n_layers) == block


def test_readout_is_recorded_and_decides(zoo):
    lm = zoo("llama")
    encoders = [
        Encoder(lm, "mean"),
        Encoder(lm, "mean", readout=1),
        Encoder(lm, "mean", readout=1, final_norm=False),
        Encoder(lm, "mean", final_norm=False),
    ]
    assert len({encoder.signature for encoder in encoders}) == 4
    recorded = [encoder.method.settings().get("readout") for encoder in encoders]
    assert recorded == [None, 1, 1, -1]
    by_share = get_method("mean", readout=0.5).for_model(lm)
    assert by_share.settings() == encoders[1].method.settings()
