"""A model that is loaded already: read as it is, left as it is, or refused in one line."""

import copy

import numpy as np
import pytest
import torch
from zoo import TEXTS, tiny

import kvlens
from kvlens import InputError


@pytest.fixture
def user():
    """A model as its user has it in the middle of training."""
    hf = tiny("llama").hf
    return hf.requires_grad_(True).train()


def take(model):
    return kvlens.load(model=model, tokenizer=tiny("llama").tokenizer)


def vectors(lm):
    return kvlens.Encoder(lm, "last_token").encode(TEXTS)


GIVEN = {
    "device": "cpu",
    "dtype": "float16",
    "revision": "main",
    "device_map": "auto",
    "quantize": "int8",
}
EXPECTED = vectors(tiny("llama"))


def refused(model, message):
    with pytest.raises(InputError, match=message) as error:
        take(model)
    assert "\n" not in str(error.value)


def test_the_users_model_stays_in_training(user):
    user.model.layers[1].eval()
    lm = take(user)
    assert not lm.hf.training
    assert not any(parameter.requires_grad for parameter in lm.hf.parameters())
    np.testing.assert_array_equal(vectors(lm), EXPECTED)
    assert kvlens.check(lm, TEXTS).passed
    assert user.training
    assert not user.model.layers[1].training
    assert all(parameter.requires_grad for parameter in user.parameters())
    user(torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert user.lm_head.weight.grad is not None


def test_it_shares_the_weights_and_says_which_they_are(user):
    lm = take(user)
    mine = {parameter.data_ptr() for parameter in lm.hf.parameters()}
    assert mine == {parameter.data_ptr() for parameter in user.parameters()}
    assert lm.info.revision == tiny("llama").info.revision
    assert lm.info.name == "LlamaForCausalLM (in memory)"
    with torch.no_grad():
        user.model.norm.weight += 1
    assert not np.array_equal(vectors(lm), EXPECTED)
    assert take(user).info.revision != lm.info.revision


def test_tied_weights_stay_tied(user):
    tied = tiny("gemma2").hf.requires_grad_(True)
    lm = kvlens.load(model=tied, tokenizer=tiny("llama").tokenizer)
    assert lm.hf.lm_head.weight is lm.hf.model.embed_tokens.weight


@pytest.mark.parametrize("contained", [torch.compile, torch.nn.DataParallel])
def test_containers_are_looked_through(user, contained):
    np.testing.assert_array_equal(vectors(take(contained(user))), EXPECTED)


def test_compiled_parts_are_refused(user):
    inside = copy.deepcopy(user)
    inside.model.layers[2] = torch.compile(inside.model.layers[2])
    refused(inside, r"model\.layers\.2 is compiled in place")
    user.compile()
    refused(user, "is compiled in place")


def test_hooks_of_the_users_are_refused_until_they_are_off(user):
    def steer(module, args, output):
        return output + 1

    handle = user.model.layers[1].mlp.register_forward_hook(steer)
    refused(user, r"model\.layers\.1\.mlp has a forward hook \(\S*steer\), which would be in every")
    handle.remove()
    handle = user.model.register_forward_pre_hook(lambda module, args: None)
    refused(user, "model has a forward hook")
    handle.remove()
    np.testing.assert_array_equal(vectors(take(user)), EXPECTED)


def test_hooks_of_transformers_are_none_of_the_users(user):
    user.enable_input_require_grads()
    user(torch.tensor([[5, 6]]), output_hidden_states=True)  # leaves hooks that collect states
    np.testing.assert_array_equal(vectors(take(user)), EXPECTED)


def test_half_precision_is_taken_as_it_is(user):
    lm = take(user.bfloat16())
    assert lm.info.dtype == "bfloat16"
    assert vectors(lm).dtype == np.float32


def test_what_is_no_sound_model_is_refused(user):
    refused(torch.nn.Linear(1, 1), r"`model` is .*, not a causal LM of transformers")
    refused(user.model, "LlamaModel .* has no language model head: give the causal LM")
    with torch.no_grad():
        user.model.norm.weight[3] = torch.nan
    refused(user, r"NaN or infinity in model\.norm\.weight")
    refused(user.to("meta"), r"embed_tokens\.weight has no values")


def test_a_name_or_a_model_and_its_tokenizer(user):
    tokenizer = tiny("llama").tokenizer
    for given in ({}, {"name": "x", "model": user, "tokenizer": tokenizer}):
        with pytest.raises(InputError, match="exactly one of `name` and `model`"):
            kvlens.load(**given)
    with pytest.raises(InputError, match="needs its `tokenizer`"):
        kvlens.load(model=user)
    with pytest.raises(InputError, match="`tokenizer` goes with `model`"):
        kvlens.load("smollm2-135m", tokenizer=tokenizer)
    for parameter, value in GIVEN.items():
        with pytest.raises(InputError, match=f"`{parameter}` is for a model that is loaded by"):
            kvlens.load(model=user, tokenizer=tokenizer, **{parameter: value})
    with pytest.raises(InputError, match="not a tokenizer of transformers"):
        kvlens.load(model=user, tokenizer=user)


def test_a_tokenizer_of_another_model_is_refused(user):
    tokenizer = tiny("llama").tokenizer
    tokenizer.add_tokens([f"word{number}" for number in range(60)])
    with pytest.raises(InputError, match=r"has id 3\d\d"):
        kvlens.load(model=user, tokenizer=tokenizer)
