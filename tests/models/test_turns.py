"""Turns: threads wait for each other, and no pass meets hooks that are not its own."""

import copy
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from zoo import TEXTS, tiny

import kvlens
from kvlens import Encoder, InputError, reroute
from kvlens.methods.base import Method
from kvlens.methods.mean import Mean
from kvlens.methods.registry import self_contained, takes_layers
from kvlens.models import turns
from kvlens.models.forward import run_base
from kvlens.rerouting.partial_pass import final_states
from kvlens.texts.batches import pad
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.tokens import tokenize
from kvlens.tracing.raw import raw_states

IDS = torch.arange(3, 27).reshape(2, 12)
LAYERS = (1, 2)
PAIRS = Pairs(tuple(TEXTS * 3), tuple(reversed(TEXTS * 3)), np.arange(15.0))
SOON = 30.0  # seconds, for what takes none


@pytest.fixture(scope="module")
def llama():
    lm = tiny("llama")
    assert lm.live_hooks
    return lm


@pytest.fixture
def elsewhere():
    """``elsewhere(call)``: the call's future, in another thread."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield pool.submit


def batch_of(lm):
    tokenized = tokenize(lm.tokenizer, TEXTS, PROMPTS["raw"], 64)
    return pad(tokenized, range(len(TEXTS)), 0)


def encode(name):
    layers = LAYERS if takes_layers(name) else None
    return lambda lm: Encoder(lm, name, layers).encode(TEXTS)


PASSES = {
    "lm": lambda lm: lm(IDS),
    "run_base": lambda lm: run_base(lm, batch_of(lm)).last_hidden_state,
}
MEASUREMENTS = {
    **{name: encode(name) for name in self_contained()},
    "control": lambda lm: Encoder(lm, "kv_embedding", ()).encode(TEXTS),
    "method": lambda lm: Mean().embed(lm, batch_of(lm)),
    "record": lambda lm: kvlens.record(lm, TEXTS).hidden,
    "sweep": lambda lm: np.array(kvlens.sweep(lm, PAIRS, [(1, 2), (3,)]).plain_cosines),
    "final_states": lambda lm: next(final_states(lm, batch_of(lm), [])),
    "attention_shift": lambda lm: kvlens.attention_shift(lm, TEXTS, LAYERS).arrays["ends.local"],
    "attention_patterns": lambda lm: kvlens.attention_patterns(lm, "a", LAYERS).arrays["beta"],
    "raw_states": lambda lm: raw_states(lm, [5, 6, 7])["k.1"],
    "check": lambda lm: np.array(list(kvlens.check(lm, TEXTS[:2]).differences.values())),
}


def same(a, b):
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("name", [*PASSES, *MEASUREMENTS])
def test_another_thread_waits_for_a_held_reroute(llama, elsewhere, name):
    call = {**PASSES, **MEASUREMENTS}[name]
    alone = call(llama)
    with reroute(llama, LAYERS):
        rerouted = llama(IDS)
        waiting = elsewhere(call, llama)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.05)
        assert torch.equal(llama(IDS), rerouted)
    assert same(waiting.result(SOON), alone)


def test_another_threads_bridge_is_built_after_a_held_reroute(elsewhere):
    lm = tiny("llama")
    with reroute(lm, LAYERS):
        waiting = elsewhere(lambda: lm.bridge)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.05)
    assert waiting.result(SOON) is lm.bridge
    assert not any(module._forward_pre_hooks for module in lm.bridge.original_model.modules())


def test_two_threads_build_one_bridge(elsewhere):
    lm = tiny("llama")
    start = threading.Barrier(2)

    def build():
        start.wait()
        return lm.live_hooks, lm.bridge

    first, second = elsewhere(build), elsewhere(build)
    assert first.result(SOON)[1] is second.result(SOON)[1] is lm.bridge
    assert first.result()[0] == second.result()[0]


def test_wrappers_of_one_model_share_its_turns(llama, elsewhere):
    other = kvlens.LanguageModel(llama.hf, llama.tokenizer, llama.info, llama.anatomy)
    plain = llama(IDS)
    with reroute(llama, LAYERS):
        waiting = elsewhere(other, IDS)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.05)
        with pytest.raises(InputError, match="leave the `with reroute` block"):
            Encoder(other, "mean").encode("a")
    assert torch.equal(waiting.result(SOON), plain)


def test_a_long_wait_for_a_reroute_is_said_once(llama, elsewhere, monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with reroute(llama, LAYERS):
            waiting = elsewhere(llama, IDS)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        waiting.result(SOON)
        with llama.turn():  # a long pass needs no explanation
            waiting = elsewhere(llama, IDS)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        waiting.result(SOON)
    (warning,) = said
    assert str(warning.message) == (
        "another thread re-routes tiny-llama: this one waits until it leaves its `with reroute`"
    )


def test_a_raw_pass_of_another_thread_does_not_meet_hooks(llama, elsewhere):
    """It takes no turn, so nobody can make it wait."""
    plain = llama.hf(IDS).logits
    with reroute(llama, LAYERS):
        for raw in (llama.hf, llama.base, llama.bridge):
            with pytest.raises(InputError, match="another thread has hooks on tiny-llama now"):
                elsewhere(raw, IDS).result(SOON)
    assert torch.equal(llama.hf(IDS).logits, plain)
    placed = {
        "before": lambda turn: turn.before(llama.blocks[0], lambda module, args: None),
        "after": lambda turn: turn.after(llama.blocks[0], lambda module, args, output: None),
        "replace": lambda turn: turn.replace(llama.blocks[0], lambda states, **rest: states),
    }
    for place in placed.values():
        with llama.turn() as turn:
            place(turn)
            llama(IDS)
            with pytest.raises(InputError, match="another thread has hooks"):
                elsewhere(llama.hf, IDS).result(SOON)
    with llama.turn() as turn:
        turn.tap(llama.bridge, [("blocks.0.hook_resid_post", lambda states, hook: None)])
        llama.bridge(IDS)
        with pytest.raises(InputError, match="another thread has hooks"):
            elsewhere(llama.bridge, IDS).result(SOON)
    assert torch.equal(elsewhere(llama.hf, IDS).result(SOON).logits, plain)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_inside_reroute_is_refused(llama, name):
    line = "tiny-llama is re-routed already: leave the `with reroute` block first"
    plain = llama(IDS)
    with reroute(llama, LAYERS):
        with pytest.raises(InputError) as refusal:
            MEASUREMENTS[name](llama)
        rerouted = llama(IDS)
    assert str(refusal.value) == line
    assert not torch.equal(rerouted, plain)
    assert torch.equal(llama(IDS), plain)
    with llama.turn(), reroute(llama, LAYERS), pytest.raises(InputError, match="leave the"):
        MEASUREMENTS[name](llama)


def test_passes_inside_reroute_are_rerouted(llama):
    with reroute(llama, LAYERS):
        inside = [llama(IDS), llama.hf(IDS).logits, llama.bridge(IDS)]
        states = run_base(llama, batch_of(llama)).last_hidden_state
    for logits in inside:
        assert torch.allclose(logits, inside[0], atol=1e-4)
        assert not torch.allclose(logits, llama(IDS), atol=1e-2)
    assert not torch.equal(states, run_base(llama, batch_of(llama)).last_hidden_state)


def test_a_reroute_without_layers_holds_nothing(llama, elsewhere):
    with reroute(llama, ()):
        assert same(elsewhere(llama, IDS).result(SOON), llama(IDS))
        assert len(Encoder(llama, "mean").encode(TEXTS)) == len(TEXTS)


@dataclass(frozen=True)
class ReroutedMean(Method):
    pooling: str = "mean"

    def embed(self, lm, batch):
        with reroute(lm, LAYERS):
            return super().embed(lm, batch)


def test_a_new_method_may_reroute_and_need_not_know_of_turns(llama):
    batch = batch_of(llama)
    method = ReroutedMean()
    with torch.inference_mode():
        direct = method.embed(llama, batch)
        plain = Mean().embed(llama, batch)
    assert not torch.equal(direct, plain)
    assert np.allclose(Encoder(llama, method).encode(TEXTS), direct, atol=1e-5)
    with reroute(llama, (3,)), pytest.raises(InputError, match="leave the `with reroute` block"):
        method.embed(llama, batch)


@pytest.mark.parametrize("name", [*PASSES, *MEASUREMENTS])
def test_a_model_in_train_mode_is_refused(name):
    lm = tiny("llama")
    call = {**PASSES, **MEASUREMENTS}[name]
    right = call(lm)
    for module in (lm.hf, lm.blocks[2].mlp):
        module.train()
        with pytest.raises(InputError, match=r"train mode.*call `lm.hf.eval\(\)`"):
            call(lm)
        lm.hf.eval()
    assert same(call(lm), right)


def test_train_mode_is_noticed_wherever_a_pass_begins():
    lm = tiny("llama")
    lm.hf.train()
    for begin in (lambda: lm.bridge, lambda: lm.live_hooks, lambda: reroute(lm, (1,)).__enter__()):
        with pytest.raises(InputError, match="train mode"):
            begin()
    lm.hf.eval()
    with reroute(lm, LAYERS):
        lm.hf.train()
        with pytest.raises(InputError, match="train mode"):
            lm(IDS)
        lm.hf.eval()
        lm(IDS)
    lm.bridge.train()
    with pytest.raises(InputError, match=r"train mode.*call `lm.bridge.eval\(\)`"):
        kvlens.record(lm, TEXTS)
    lm.bridge.eval()
    assert kvlens.record(lm, TEXTS).n_tokens


def test_a_failed_turn_leaves_nothing(llama, elsewhere):
    forward = llama.blocks[1].forward

    def fails():
        raise KeyError

    def run():
        with llama.turn() as turn:
            turn.before(llama.blocks[0], lambda module, args: fails())
            turn.replace(llama.blocks[1], lambda *args, **options: fails())
            llama(IDS)

    with pytest.raises(KeyError):
        run()
    assert not llama.blocks[0]._forward_pre_hooks
    assert llama.blocks[1].forward == forward
    assert elsewhere(llama, IDS).result(SOON).shape[:2] == IDS.shape


def test_a_replaced_forward_that_was_replaced_before_comes_back(llama):
    """As some libraries replace it to move weights."""
    block = llama.blocks[1]
    foreign = block.forward
    block.forward = foreign
    with llama.turn() as turn:
        turn.replace(block, lambda states, **rest: states)
    assert vars(block).pop("forward") is foreign


def test_a_copy_of_a_model_has_no_turn(llama):
    with llama.turn():
        other = copy.deepcopy(llama.hf)
    assert not vars(other).keys() - vars(llama.hf).keys()
    with llama.turn() as turn:
        turn.before(llama.blocks[0], lambda module, args: None)
        with pytest.raises(InputError, match=r"use `lm.bridge` once before"):
            copy.deepcopy(llama.hf)
