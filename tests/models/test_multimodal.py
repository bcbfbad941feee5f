"""Multimodal checkpoints are read by their text decoder."""

import json

import pytest
import torch
from model_folders import change
from safetensors.numpy import load_file
from towers import WITH_TOWERS, saved_wrapper, wrapper
from zoo import SHAPE, TEXTS

import kvlens
from kvlens import InputError

BRIDGED = ("gemma3", "mistral3", "ministral3")  # TransformerLens's K and V hooks fire there
IDS = torch.arange(5, 24)[None]


@pytest.fixture(scope="module", params=sorted(WITH_TOWERS))
def folder(request, tmp_path_factory):
    return saved_wrapper(tmp_path_factory.mktemp("towers"), request.param)


@pytest.fixture(scope="module")
def loaded(folder):
    return kvlens.load(folder)


def test_the_text_decoder_is_what_is_read(loaded):
    assert type(loaded.hf).__name__.endswith("ForConditionalGeneration")
    assert "vision" not in type(loaded.base).__name__.lower()
    assert len(loaded.blocks) == SHAPE["num_hidden_layers"]
    assert loaded.base.get_input_embeddings() is loaded.hf.get_input_embeddings()
    shapes = (loaded.info.n_layers, loaded.info.d_model, loaded.info.vocab_size)
    assert shapes == (4, 32, 300)
    assert loaded.info.max_positions == SHAPE["max_position_embeddings"]


def test_its_states_are_those_of_the_whole_wrapper(folder, loaded):
    """Of the model that was saved, which kvlens never saw."""
    whole = wrapper(folder.name)(IDS, output_hidden_states=True)
    with torch.no_grad():
        states = loaded.base(IDS).last_hidden_state
    torch.testing.assert_close(states, whole.hidden_states[-1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loaded(IDS), whole.logits, rtol=1e-4, atol=1e-5)


def test_texts_are_encoded_and_padding_changes_nothing(loaded):
    encoder = kvlens.Encoder(loaded, "last_token")
    together = torch.from_numpy(encoder.encode(TEXTS))
    apart = torch.cat([torch.from_numpy(encoder.encode([text])) for text in TEXTS])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", BRIDGED)
def test_texts_are_recorded(tmp_path, kind):
    lm = kvlens.load(saved_wrapper(tmp_path, kind))
    assert kvlens.check(lm, TEXTS).recording_passed


def test_saving_it_again_keeps_the_towers(folder, loaded, tmp_path):
    loaded.hf.save_pretrained(tmp_path)
    before = load_file(folder / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)


def test_a_layer_more_in_the_weights_is_left_over(tmp_path):
    """The towers' weights are no excuse."""
    folder = saved_wrapper(tmp_path, "llama4")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    for entry in ("layer_types", "no_rope_layers"):
        text[entry] = text[entry][:3]
    text["moe_layers"] = [1]
    change(folder / "config.json", text_config=text | {"num_hidden_layers": 3})
    with pytest.raises(InputError, match=r"layers\.3\.\S+ \(and \d+ more\) is left over"):
        kvlens.load(folder)


def test_a_text_decoder_saved_alone_loads_alone(tmp_path):
    import transformers as tf

    alone = tf.AutoModelForCausalLM.from_config(WITH_TOWERS["qwen3_5"]().get_text_config())
    folder = saved_wrapper(tmp_path, "qwen3_5")
    (folder / "config.json").unlink()
    alone.save_pretrained(folder)
    assert kvlens.load(folder).info.architecture == "Qwen3_5ForCausalLM"
