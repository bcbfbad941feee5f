"""Every method on every architecture; what is refused; how a new one is found."""

import copy
import gc
import json
import random
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from brute_force import Stop
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, model, raw

import kvlens.methods
from kvlens import Encoder, InputError
from kvlens.layers.control import OPTIONS
from kvlens.methods.base import Method, final_hidden
from kvlens.methods.registry import get_method, methods, takes_layers
from kvlens.texts.prompts import from_template

# The files of the folder, whatever other tests define.
NAMES = [name for name, cls in methods().items() if cls.__module__.startswith("kvlens.")]


def test_the_matrix_runs_every_method():
    helpers = {"__init__", "base", "depth", "pooling", "readout", "registry", "watch"}
    files = {path.stem for path in Path(kvlens.methods.__path__[0]).glob("*.py")}
    assert set(NAMES) == files - helpers
    assert {"aligned_wva", "echo", "kv_embedding", "last_token", "mean"} < set(NAMES)
    assert {"prompt_eol", "token_prepending", "value_aggregation"} < set(NAMES)
    assert all(methods()[name].paper for name in NAMES)


def random_states():
    """Of torch, numpy's and Python's global generators."""
    return [
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate(),
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_on_every_architecture(name, architecture):
    lm = model(architecture)
    method = build(name, lm)
    ids = torch.arange(3, 40)[None]
    logits = lm(ids)
    weights = copy.deepcopy(lm.hf.state_dict())

    torch.manual_seed(1)
    before = random_states()
    many = embed(method, lm, AWKWARD)
    assert random_states() == before, "nothing is drawn"

    info = lm.info
    width = info.n_kv_heads * info.d_head if name == "value_aggregation" else info.d_model
    assert many.shape == (len(AWKWARD), width) == (len(AWKWARD), method.width(lm))
    assert torch.isfinite(many).all()
    # Three windows of 7 do not reach past the prompt.
    if (name, architecture) not in [("token_prepending", "mistral"), ("ke", "mistral")]:
        assert torch.pdist(many).min() > 1e-3, "texts differ, so vectors do"
    torch.manual_seed(2)
    assert torch.equal(embed(method, lm, AWKWARD), many)
    close(many, [embed(method, lm, [text])[0] for text in AWKWARD])
    torch.testing.assert_close(embed(method, lm, AWKWARD, side="left"), many, rtol=1e-4, atol=1e-4)

    def stop(module, args):
        raise Stop

    handle = lm.blocks[1].register_forward_pre_hook(stop)
    with pytest.raises(Stop):
        embed(method, lm, AWKWARD)
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.hf.modules())
    assert torch.equal(lm(ids), logits)
    assert all(torch.equal(weights[key], value) for key, value in lm.hf.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_plain_values_that_build_the_method_again(name):
    lm = model("llama")
    method = build(name, lm)
    values = json.loads(json.dumps(method.settings()))
    plain = (method.readout, method.final_norm) in [(-1, True), (None, None)]
    left_out = {"readout", "final_norm"} if plain else set()
    if takes_layers(name):  # and the prefix is the paper's
        left_out |= set(OPTIONS) - set(values)
    assert list(values) == [field.name for field in fields(method) if field.name not in left_out]
    assert values.pop("query") == method.query.model_dump()
    assert values.pop("document") == method.document.model_dump()
    for setting, value in values.items():
        values[setting] = tuple(value) if isinstance(value, list) else value
    if "calibration" in values:
        assert values["calibration"] == method.calibration.sha256
        values["calibration"] = method.calibration
    again = get_method(name, **values)
    assert again.for_model(lm) == method


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "nothing",
            {},
            r"unknown method 'nothing': give one of aligned_wva, cot, echo, ke, kv_e",
        ),
        ("mean", {"layers": [1]}, r"mean: .*'layers'; its settings are query, document, pooling"),
        ("mean", {"readout": 4}, r"`readout` is 4; the blocks are 0 to 3, or -1 for the last"),
        ("mean", {"readout": -5}, r"`readout` is -5; the blocks are 0 to 3"),
        ("mean", {"readout": 1.5}, r"`readout` is 1.5 \(float\), not a block's index"),
        ("mean", {"readout": None}, r"`readout` is None \(NoneType\), not a block's index"),
        ("mean", {"final_norm": 1}, r"`final_norm` is 1 \(int\), not True or False"),
        ("mean", {"prepare": "yes"}, r"`prepare` is 'yes' \(str\), not True or False"),
        ("aligned_wva", {"readout": 1}, r"aligned_wva has no readout: leave out `readout`"),
        ("value_aggregation", {"final_norm": True}, r"has no readout: leave out `final_norm`"),
        ("token_prepending", {"published": "x"}, r"`published` is 'x'; it must be one of llama"),
        (
            "mean",
            {"pooling": "max"},
            r"unknown pooling 'max': give one of last, mean, hybrid, hybrid_unnormalized, text",
        ),
        ("kv_embedding", {"layers": None}, r"kv_embedding needs layers"),
        ("kv_embedding", {"layers": (4,)}, r"layer 4 is outside tiny-llama"),
        ("kv_embedding", {"bias": (1.0,)}, r"1 biases for 2 layers"),
        ("kv_embedding", {"position": "first"}, r"unknown position coding 'first'"),
        ("token_prepending", {"start": 0}, r"needs 1 <= start < exit <= 4"),
        ("token_prepending", {"exit": 5}, r"needs 1 <= start < exit <= 4"),
        ("token_prepending", {"output": 5}, r"1 <= output <= 4"),
        ("value_aggregation", {"depth": (1.0, 1.0)}, r"depth"),
        ("value_aggregation", {"depth": (0.8, 0.2)}, r"depth"),
        ("aligned_wva", {"depth": (0.5, 1.5)}, r"depth"),
        ("aligned_wva", {"depth": (-1.0, 0.5)}, r"depth"),
    ],
)
def test_bad_requests_say_what_is_wrong(name, settings, message):
    with pytest.raises(InputError, match=message) as error:
        build(name, model("llama"), **settings)
    assert "\n" not in str(error.value)


def test_a_new_method_is_found_and_serves_the_encoder():
    @dataclass(frozen=True)
    class FirstToken(Method):
        name = "first_token"
        source = "this test"
        power: int = 1

        def embed(self, lm, batch):
            return final_hidden(lm, batch)[:, 0] ** self.power

    @dataclass(frozen=True)
    class Again(FirstToken):
        name = "first_token_again"

    lm = model("llama")
    assert methods()["first_token"] is FirstToken
    assert methods()["first_token_again"] is Again
    encoder = Encoder(lm, "first_token", document=from_template("Say {text}"), power=2)
    squared = raw(lm, "Say hello")[0].numpy() ** 2
    np.testing.assert_allclose(encoder.encode("hello"), squared, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="first_token has no readout"):
        get_method("first_token", readout=1)
    with pytest.raises(InputError, match="final_norm, power, prepare"):
        get_method("first_token", strength=2)
    del FirstToken, Again, encoder
    gc.collect()
    assert "first_token" not in methods()


def test_a_helper_class_without_a_name_is_no_method():
    class Shared(Method):
        pass

    class Louder(methods()["mean"]):
        pass

    assert Shared not in methods().values()
    assert Louder not in methods().values()
