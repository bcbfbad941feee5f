"""A hostile model folder: nothing of it is run, fetched or read from outside."""

import pytest
import transformers as tf
from model_folders import change, saved
from torture import hostile
from transformers import dynamic_module_utils

import kvlens
from kvlens import InputError
from kvlens.models.checkpoint import Checkpoint
from kvlens.models.foreign import refuse_foreign, set_switches_aside

KERNEL = "kernels-community/flash-attn2"
ODD = {"content": "<odd>", "special": True, "\x1b[2J": 1}
REFUSED = (
    "a pickle instead of the weights",
    "an index with an absolute path",
    "an index that climbs",
    "weights named climbing",
    "another config",
    "an adapter",
    "quantized by kernels",
    "a model as tokenizer",
    "a tokenizer's versions",
    "a tokenizer's file by its tokens",
)
SET_ASIDE = (
    "code of a known model",
    "code that trusts itself",
    "code that generates",
    "a pickle beside the weights",
    "a kernel",
    "a kernel of anybody",
    "flash attention",
    "eager attention",
    "kernels of experts",
    "a patch",
    "another dtype",
    "templates",
)


def test_every_trap_is_refused_or_set_aside(tmp_path):
    counts = hostile.campaign(1, len(hostile.TRAPS) + 20, tmp_path)
    assert counts.total() == len(hostile.TRAPS) + 20
    assert not [end for end in counts if end.endswith("failed")]
    assert all(counts[f"{trap}: refused"] == 1 for trap in REFUSED)
    assert all(counts[f"{trap}: loaded"] == 1 for trap in SET_ASIDE)


def test_a_switch_in_a_part_is_set_aside():
    config = tf.Gemma3Config(
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "dtype": "float64"},
        attn_implementation={"": KERNEL, "text_config": KERNEL, "vision_config": "eager"},
    )
    assert config.text_config._attn_implementation == KERNEL
    assert config.vision_config._attn_implementation == "eager"
    set_switches_aside(config)
    for part in (config, config.text_config, config.vision_config):
        assert part._attn_implementation is None
        assert part.dtype is None


@pytest.mark.parametrize("part", ["", "text_config"])
def test_quantization_that_fetches_kernels_is_refused(tmp_path, part):
    quantized = {"quantization_config": {"quant_method": "nvfp4"}}
    checkpoint = Checkpoint(tmp_path, {part: quantized} if part else quantized, {})
    with pytest.raises(InputError, match=r"`quantization_config` \(nvfp4\) runs kernels"):
        refuse_foreign(checkpoint, trust_remote_code=False)


def test_trusted_code_comes_from_the_folder_alone(tmp_path):
    folder = saved(tmp_path)
    change(folder / "config.json", auto_map=hostile.ELSEWHERE)
    assert kvlens.load(folder).info.architecture == "LlamaForCausalLM"
    with pytest.raises(InputError, match="`auto_map` takes code from another repository"):
        kvlens.load(folder, trust_remote_code=True)


def test_trusted_code_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = saved(tmp_path)
    (folder / "evil.py").write_text(hostile.CODE)
    change(folder / "config.json", auto_map=hostile.CODE_MAP, model_type="evil")
    lm = kvlens.load(folder, trust_remote_code=True)
    assert lm.info.architecture == "EvilModel"
    assert (tmp_path / "ran-as-code").exists()


@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": ODD}}),
        ("tokenizer_config.json", {"mask_token": ODD | {"__type": "AddedToken"}}),
        ("special_tokens_map.json", {"mask_token": ODD}),
        ("tokenizer.json", {"added_tokens": [ODD | {"id": 0}]}),
    ],
)
def test_a_token_that_a_library_would_print_is_refused(tmp_path, capfd, file, entries):
    """The tokenizers library prints the entries that it does not know, as they are."""
    folder = saved(tmp_path)
    change(folder / file, **entries)
    capfd.readouterr()
    with pytest.raises(InputError, match=r"`\\x1b\[2J` is no property of a token"):
        kvlens.load(folder)
    assert "\x1b" not in "".join(capfd.readouterr())
