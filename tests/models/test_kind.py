"""What is no decoder-only model with attention is refused by its kind, before it is built."""

import pytest
import transformers as tf
from towers import gemma4

import kvlens
from kvlens import InputError
from kvlens.cli import main
from kvlens.models.kind import first_layer_config, refuse_other_than_decoder

WITHOUT_ATTENTION = {
    "mamba": tf.MambaConfig,
    "mamba2": tf.Mamba2Config,
    "falcon_mamba": tf.FalconMambaConfig,
    "rwkv": tf.RwkvConfig,
    "xlstm": tf.xLSTMConfig,
}


@pytest.mark.parametrize("kind", sorted(WITHOUT_ATTENTION))
def test_a_model_without_keys_is_refused(tmp_path, kind, capsys):
    WITHOUT_ATTENTION[kind]().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="a model without attention") as error:
        kvlens.load(tmp_path)
    assert "\n" not in str(error.value)
    assert main(["check", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (tf.BertConfig(), "encoder-only"),
        (tf.T5Config(), "encoder-decoder"),
        (tf.Florence2Config(), "encoder-decoder"),
        (tf.CLIPConfig(), "no causal language model"),
        (tf.ViTConfig(), "no causal language model"),
    ],
    ids=lambda each: getattr(each, "model_type", ""),
)
def test_what_is_no_decoder_is_refused(config, message):
    with pytest.raises(InputError, match=message):
        refuse_other_than_decoder(config, "x")


def test_blocks_that_differ_are_described_by_the_first():
    config = gemma4()
    with pytest.raises(RuntimeError, match="per-layer"):
        _ = config.get_text_config().head_dim
    assert first_layer_config(config).head_dim == 8
