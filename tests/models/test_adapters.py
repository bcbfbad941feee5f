"""Adapters of peft are merged into a view; the user's model stays as it is."""

import copy

import pytest
import torch
from zoo import TEXTS, tiny

import kvlens
from kvlens import InputError
from kvlens.models.hub import refuse_adapter

peft = pytest.importorskip("peft")
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def adapted(architecture="llama", **entries):
    settings = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, "r": 4}
    config = peft.LoraConfig(task_type="CAUSAL_LM", **settings | entries)
    torch.manual_seed(0)
    return peft.get_peft_model(tiny(architecture).hf.requires_grad_(True), config)


def take(model):
    return kvlens.load(model=model, tokenizer=tiny("llama").tokenizer)


@pytest.mark.parametrize(
    "entries",
    [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"target_modules": "all-linear"}],
    ids=str,
)
def test_the_merged_view_computes_what_the_adapted_model_does(entries):
    model = adapted(**entries)
    with torch.no_grad():
        expected = model.eval()(IDS).logits
        plain = tiny("llama")(IDS)
    model.train()
    state = copy.deepcopy(model.state_dict())
    lm = take(model)
    torch.testing.assert_close(lm(IDS), expected, rtol=1e-4, atol=1e-4)
    assert (expected - plain).abs().max() > 0.1
    assert kvlens.check(lm, TEXTS).passed
    assert lm.info.architecture == "LlamaForCausalLM"
    assert lm.info.revision != tiny("llama").info.revision
    assert model.training
    assert any(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert state.keys() == after.keys()
    assert all(torch.equal(state[name], after[name]) for name in state)


def test_weights_without_adapter_are_shared():
    model = adapted()
    lm = take(model)
    mine = {name: parameter.data_ptr() for name, parameter in lm.hf.named_parameters()}
    theirs = model.get_base_model()
    assert mine["model.layers.0.mlp.up_proj.weight"] == (
        theirs.model.layers[0].mlp.up_proj.weight.data_ptr()
    )
    assert mine["model.layers.0.self_attn.q_proj.weight"] != (
        theirs.model.layers[0].self_attn.q_proj.base_layer.weight.data_ptr()
    )


def test_adapters_that_are_off_are_left_out():
    model = adapted()
    with model.disable_adapter():
        lm = take(model)
    torch.testing.assert_close(lm(IDS), tiny("llama")(IDS))


def test_what_cannot_be_merged_is_refused():
    prompted = peft.get_peft_model(
        tiny("llama").hf, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    )
    with pytest.raises(InputError, match="learnt prompts, which cannot be merged"):
        take(prompted)
    with pytest.raises(InputError, match="adapters inside: merge them, or give the `PeftModel`"):
        take(adapted().get_base_model())


def test_a_repository_with_an_adapter_is_refused():
    """transformers would fetch the model that the adapter names, from another repository."""
    refuse_adapter(["config.json", "model.safetensors"], "x/y")
    with pytest.raises(InputError, match=r"x/y has an adapter \(adapter_config\.json\): load it"):
        refuse_adapter(iter(["config.json", "adapter_config.json"]), "x/y")
