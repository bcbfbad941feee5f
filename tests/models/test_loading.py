"""Names become models, or one line that says why not."""

import pytest
import torch
import transformers as tf
from zoo import tiny

import kvlens
from kvlens import InputError
from kvlens.models import slow_dtype
from kvlens.models.catalog import NAMED, is_cached
from kvlens.store.files import cache_dir, sha256_file
from kvlens.store.notices import Notice


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    lm = tiny("qwen3")
    folder = tmp_path_factory.mktemp("models") / "small-qwen3"
    lm.hf.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def test_a_local_directory_loads_with_its_content_hash(model_folder):
    first = kvlens.load(model_folder)
    second = kvlens.load(str(model_folder))
    assert first.info == second.info
    assert first.info.revision.startswith("sha256:")
    assert (first.info.n_layers, first.info.n_kv_heads, first.info.d_head) == (4, 2, 8)
    assert first.info.same_weights(second.info)
    assert not first.info.same_weights(tiny("qwen3", seed=1).info)


def test_a_dtype_that_is_slow_here_is_told(model_folder, monkeypatch):
    monkeypatch.setattr(slow_dtype, "slowdown", lambda dtype: 9.0)
    with pytest.warns(Notice, match="bfloat16 is 9 times slower than float32"):
        half = kvlens.load(model_folder, dtype="bfloat16")
    assert half.info.dtype == "bfloat16"


def test_what_cannot_be_loaded_says_so(tmp_path, model_folder):
    bert = tmp_path / "bert"
    t5 = tmp_path / "t5"
    tf.BertModel(
        tf.BertConfig(
            vocab_size=64,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        )
    ).save_pretrained(bert)
    tf.T5Config().save_pretrained(t5)
    (tmp_path / "x.gguf").write_bytes(b"GGUF but not really")
    (tmp_path / "x.bin").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name, message in (
        (bert, "BertModel, an encoder-only model"),
        (t5, "encoder-decoder"),
        (tmp_path / "x.gguf", "cannot read x.gguf as a GGUF model"),
        (tmp_path / "x.bin", "is a file but not .gguf"),
        (tmp_path / "empty", "no config.json"),
        ("./nowhere", "no such file or directory"),
        ("what is this?", "unknown model 'what is this\\?': give one of smollm2-135m"),
        ("kvlens-nobody/kvlens-nothing", "hub"),
    ):
        with pytest.raises(InputError, match=message) as error:
            kvlens.load(name)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="unknown dtype 'int3'"):
        kvlens.load(model_folder, dtype="int3")
    with pytest.raises(InputError, match="device 'warp' cannot be used"):
        kvlens.load(model_folder, device="warp")


def test_damaged_weights_are_named(tmp_path, model_folder):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model_folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(InputError, match=r"cannot read .*/broken/model\.safetensors: "):
        kvlens.load(broken)


def test_only_safetensors_are_read(tmp_path, model_folder):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for file in model_folder.glob("*.json"):
        (pickled / file.name).write_bytes(file.read_bytes())
    torch.save(tiny("qwen3").hf.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled has no weights in safetensors"):
        kvlens.load(pickled)


@pytest.mark.real
def test_named_model_converts_from_its_gguf_file(smollm):
    named = NAMED["smollm2-135m"]
    assert is_cached("smollm2-135m")
    assert sha256_file(cache_dir() / "gguf" / named.gguf) == named.sha256
    assert smollm.info.revision == f"sha256:{named.sha256}"
    assert (smollm.info.n_layers, smollm.info.n_heads, smollm.info.n_kv_heads) == (30, 9, 3)
    assert smollm.info.d_model == 576


@pytest.mark.real
def test_real_model_knows_what_it_read(smollm):
    """The weights are the right ones: a fact that a random model cannot know."""
    ids = smollm.tokenizer("The capital of France is", return_tensors="pt")
    logits = smollm(ids["input_ids"], attention_mask=ids["attention_mask"])
    assert smollm.tokenizer.decode(logits[0, -1].argmax()) == " Paris"
    assert kvlens.load("smollm2-135m").info == smollm.info
