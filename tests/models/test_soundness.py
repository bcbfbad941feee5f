"""Config, weights and tokenizer that do not belong together are refused by name, in one line."""

import json
import time

import numpy as np
import pytest
import torch
from model_folders import change, saved, with_old_tokenizer
from safetensors.numpy import load_file, save_file
from zoo import CONFIGS, tiny

import kvlens
from kvlens import InputError


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path)


def change_weights(folder, change):
    """Rewrite the weights after `change` has been at the dict of arrays."""
    file = folder / "model.safetensors"
    arrays = load_file(file)
    change(arrays)
    save_file(arrays, file, {"format": "pt"})


def refused(folder, message):
    with pytest.raises(InputError, match=message) as error:
        kvlens.load(folder)
    assert len(str(error.value).replace(f"{folder.parent}/", "")) < 300
    assert "\n" not in str(error.value)


NORM = "model.norm.weight"


def test_missing_weights_are_not_made_up(folder):
    change_weights(folder, lambda arrays: arrays.pop(NORM))
    refused(folder, r"model\.norm\.weight is not in the weights")


def test_weights_that_are_left_over_are_named(folder):
    change(folder / "config.json", num_hidden_layers=3)
    refused(folder, r"model\.layers\.3\.\S+ \(and 8 more\) is left over")


def test_weights_of_another_shape_are_named(folder):
    change_weights(folder, lambda arrays: arrays.update({NORM: np.ones(31, np.float32)}))
    refused(folder, r"model\.norm\.weight is \[31\] in the weights and \[32\] by the config")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(folder, number):
    def spoil(arrays):
        arrays[NORM] = arrays[NORM].copy()
        arrays[NORM][5] = number

    change_weights(folder, spoil)
    refused(folder, r"NaN or infinity in model\.norm\.weight")


def test_weights_that_overflow_are_noticed(folder):
    change_weights(folder, lambda arrays: arrays.update({NORM: np.full(32, 3e38, np.float32)}))
    refused(folder, "NaN or infinity in the logits of a first text")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"num_hidden_layers": 10**6}, "`num_hidden_layers` is 1e.06, out of proportion"),
        ({"num_hidden_layers": 10**400}, "out of proportion|digits"),
        ({"num_hidden_layers": 100}, "asks for 100 layers, its weights are 39 tensors"),
        ({"num_attention_heads": 10**9}, "`num_attention_heads` is 1e.09, out of proportion"),
        ({"num_labels": 10**9}, "`num_labels` is 1e.09, out of proportion"),
        ({"hidden_size": 10**9}, "asks for .* numbers, its weights are for at most|memory|size"),
        ({"hidden_size": 4 * 10**5, "head_dim": 10**5}, "asks for .* numbers"),
        ({"vocab_size": 10**9}, "asks for .* numbers"),
        ({"intermediate_size": 10**8}, "asks for .* numbers"),
        ({"num_attention_heads": 3}, "cannot load"),
        ({"num_key_value_heads": 3}, "does not fit its config"),
        ({"rms_norm_eps": float("nan")}, "NaN or infinity in the logits"),
        ({"hidden_act": "none"}, "cannot load"),
        ({"model_type": "mamba"}, "cannot load|does not fit|no causal"),
        ({"model_type": None}, "cannot load"),
        ({"vocab_size": 250}, "the tokenizer of .* has id 25"),
        ({"architectures": 3}, "cannot load"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_it_costs(folder, entries, message):
    change(folder / "config.json", **entries)
    begin = time.process_time()
    refused(folder, message)
    assert time.process_time() - begin < 5


def test_ids_beyond_the_vocabulary_are_refused_unless_special(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    token = {"content": "<picture>", "special": True, "id": 300, "normalized": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    content["added_tokens"].append(token | flags)
    file.write_text(json.dumps(content))
    # as Gemma 3's picture token; it is plain text where a text holds it
    for number in (300, 50_000):
        content["added_tokens"][-1]["id"] = content["model"]["vocab"]["<picture>"] = number
        file.write_text(json.dumps(content))
        if number == 300:
            lm = kvlens.load(folder)
            assert lm.tokenizer.convert_tokens_to_ids("<picture>") == 300
            assert np.isfinite(kvlens.Encoder(lm, "mean").encode(["a <picture>"])).all()
        else:
            refused(folder, r"has id 50000 \('<picture>'\), the model embeds 300 tokens")
    content["added_tokens"][-1] |= {"special": False, "id": 300}
    content["model"]["vocab"]["<picture>"] = 300
    file.write_text(json.dumps(content))
    refused(folder, r"has id 300 \('<picture>'\)")


def test_a_vocabulary_with_an_absurd_id_is_refused(folder):
    """The tokenizers library would write out four billion ids, and end the process."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["a"] = 2**32 - 1
    file.write_text(json.dumps(content))
    refused(folder, r"has id 4294967295 \('a'\)|makes no token of 'a'")


def test_a_pad_token_without_embedding_is_refused(folder):
    change(folder / "tokenizer_config.json", pad_token="<new-pad>", vocab_size=300)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"] |= {f"x{i}": i for i in range(259, 300)}
    file.write_text(json.dumps(content))
    refused(folder, r"has id 300 \('pad_token_id'\)")


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_sound_models_load_with_the_kernel_of_old(tmp_path, architecture):
    """Nothing of this is in the way of a model as `save_pretrained` writes it."""
    lm = kvlens.load(saved(tmp_path, architecture))
    ids = torch.tensor([[5, 6, 7]])
    expected = tiny(architecture)
    expected.hf.set_attn_implementation(lm.hf.config._attn_implementation)
    assert torch.equal(lm(ids), expected(ids))


def test_old_tokenizer_files_load(tmp_path):
    lm = kvlens.load(with_old_tokenizer(tmp_path))
    assert lm.tokenizer("at")["input_ids"][-1] == lm.tokenizer.convert_tokens_to_ids("at")
