import numpy as np
import pytest
from conftest import tiny
from test_layers import make_profile

from kvlens import Encoder, InputError, LayerSet, select, select_by_summary
from kvlens.cli import main
from kvlens.prompts import PROMPTS
from kvlens.summary import summary_transfer
from kvlens.sweep import windows

TEXTS = [f"{'the text ' * (i % 4)}number {i} of {i * i}" for i in range(40)]
PROMPT = PROMPTS["kv-document"]


def profile_of(lm):
    made = make_profile(np.linspace(12, 9, 4))
    return made.model_copy(update={"model": lm.info})


def by_hand(lm, layer_sets, bias=1.0):
    """The same from the vectors that an Encoder gives."""

    def vectors(layers, pooling):
        encoder = Encoder(lm, "kv_embedding", layers, pooling=pooling, document=PROMPT, bias=bias)
        found = encoder.encode(TEXTS).astype(float)
        found -= found.mean(0)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    final = vectors((), "last")
    return np.stack([(vectors(layers, "mean") * final).sum(1) for layers in ((), *layer_sets)])


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_is_the_centred_cosine_of_mean_and_plain_final_token(architecture):
    lm, sets = tiny(architecture), [(0,), (1, 2), (3,), (0, 3)]
    found = summary_transfer(lm, TEXTS, sets, 2.0, prompt=PROMPT)
    assert found.shape == (5, 40)
    np.testing.assert_allclose(found, by_hand(lm, sets, 2.0), atol=1e-4)


def test_chooses_the_best_window_or_none(tmp_path):
    empty = 0
    for seed in range(6):
        lm = tiny("llama", seed)
        profile, candidates = profile_of(lm), windows(4, (2,))
        values = by_hand(lm, candidates).mean(1)
        chosen = select_by_summary(lm, profile, TEXTS, window=0.25)
        assert chosen.layers == ((), *candidates)[values.argmax()]
        assert (chosen.rule, chosen.profile, chosen.prompts.document) == ("summary", profile, PROMPT)
        assert f"{values[0]:.2f}" in chosen.reason
        assert f"{values.max():.2f}" in chosen.reason
        assert LayerSet.load(chosen.save(tmp_path / "layers.json")) == chosen
        assert "window 0.25" in str(chosen)
        empty += not chosen.layers
    assert 0 < empty < 6, "both outcomes have to occur"


def test_windows_that_make_no_clear_difference_are_named():
    lm = tiny("qwen2")
    chosen = select_by_summary(lm, profile_of(lm), TEXTS, bias=-20.0)  # the prefix gets no weight to speak of
    expected = ["not clearly better than layer"] * 3 + ["not clearly better than no re-routing"] * bool(chosen.layers)
    assert [warning[: len(start)] for warning, start in zip(chosen.warnings, expected, strict=True)] == expected


def test_refusals():
    lm = tiny("llama")
    with pytest.raises(InputError, match="10 distinct texts, at least 20"):
        select_by_summary(lm, profile_of(lm), TEXTS[:10] * 3)
    with pytest.raises(InputError, match="the profile is of test-model, the model is tiny-llama"):
        select_by_summary(lm, make_profile([10.0] * 4), TEXTS)
    with pytest.raises(InputError, match="summary needs the model"):
        select(profile_of(lm), "summary")


def test_on_the_terminal(tmp_path, capsys):
    lm, model, texts = tiny("gpt2"), tmp_path / "gpt2", tmp_path / "texts.txt"
    lm.hf.save_pretrained(model)
    lm.tokenizer.save_pretrained(model)
    texts.write_text("\n".join(f"text number {i} of {i * i}" for i in range(80)))
    command = ["profile", str(model), "--texts", str(texts), "--rule", "summary", "--window", "0.25"]
    assert main([*command, "-o", str(tmp_path / "run")]) == 0
    chosen = LayerSet.load(tmp_path / "run" / "layers.json")
    assert str(chosen) in capsys.readouterr().out
    assert chosen.rule == "summary"
    assert chosen.command.startswith("kvlens profile")
    assert len(chosen.layers) in (0, 2)
    assert main([*command, "-o", str(tmp_path / "other"), "--layers", "1"]) == 2
    assert "--layers goes with --rule explicit" in capsys.readouterr().err
