"""A package of its own registers the anatomy of an architecture that transformers does not know."""

import sys

import pytest
import torch
from zoo import TEXTS, byte_tokenizer

import kvlens
from kvlens import InputError

PACKAGE = """
import transformers as tf
from kvlens.models.anatomy import Anatomy
from kvlens.models.dissection import dissect

class PrivateConfig(tf.LlamaConfig):
    model_type = "private"

class PrivateForCausalLM(tf.LlamaForCausalLM):
    config_class = PrivateConfig

tf.AutoConfig.register("private", PrivateConfig, exist_ok=True)
tf.AutoModelForCausalLM.register(PrivateConfig, PrivateForCausalLM, exist_ok=True)
told = []

def anatomy_of(hf):
    told.append(type(hf).__name__)
    return dissect(hf, "private")

def wrong(hf):
    return Anatomy(dissect(hf, "private").layers[:1])

def nothing(hf):
    return None
"""
SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package that registers one of its functions."""

    def install(function):
        site = tmp_path / function
        about = site / "private_lm-1.0.dist-info"
        about.mkdir(parents=True)
        (site / "private_lm.py").write_text(PACKAGE)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: private-lm\nVersion: 1.0\n")
        entry = f"[kvlens.anatomies]\nprivate = private_lm:{function}\n"
        (about / "entry_points.txt").write_text(entry)
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, "private_lm", raising=False)

    return install


def saved_private(folder):
    """By a machine that has the package."""
    import private_lm

    torch.manual_seed(0)
    private_lm.PrivateForCausalLM(private_lm.PrivateConfig(**SIZES)).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_a_private_architecture_loads_by_its_package(installed, tmp_path):
    installed("anatomy_of")
    lm = kvlens.load(saved_private(tmp_path / "model"))
    assert sys.modules["private_lm"].told == ["PrivateForCausalLM"]
    assert lm.info.architecture == "PrivateForCausalLM"
    assert kvlens.Encoder(lm, "last_token").encode(TEXTS).shape == (len(TEXTS), 32)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong", "registered for private does not tell of the 2 blocks"),
        ("nothing", "registered for private is a NoneType, no `Anatomy`"),
        ("missing", r"cannot import private_lm:missing, registered for private: "),
    ],
)
def test_a_package_that_tells_wrong_is_named(installed, tmp_path, function, message):
    installed(function)
    with pytest.raises(InputError, match=message) as error:
        kvlens.load(saved_private(tmp_path / "model"))
    assert "\n" not in str(error.value)
