"""A saved encoder: the same vectors from a folder, in another process, and after a move."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from zoo import TEXTS

import kvlens
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.saved_encoder import MODEL, RECORD, load_encoder, save_encoder
from kvlens.embedding.sentence_transformer import as_sentence_transformer
from kvlens.store.errors import InputError

SETTINGS = [
    ("kv_embedding", {"layers": [1, 2], "bias": (0.5, 2.0), "heads": {1: [0]}, "value": "zero"}),
    ("kv_embedding", {"layers": []}),
    ("prompt_eol", {"readout": 1, "final_norm": False}),
    ("aligned_wva", {"depth": (0.5, 1)}),
    ("token_prepending", {}),
    ("look_both_ways", {}),
    ("mean", {"document": "a prefix of its own: "}),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_every_kind_of_setting_comes_back(lm, name, settings, tmp_path):
    if "document" in settings:
        settings = {"document": kvlens.Prompt(name="own", prefix=settings["document"])}
    encoder = Encoder(lm, name, max_length=200, batch_tokens=512, **settings)
    save_encoder(encoder, tmp_path / "saved")
    again = load_encoder(tmp_path / "saved")
    np.testing.assert_array_equal(again.encode_query(TEXTS), encoder.encode_query(TEXTS))
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
    assert again.signature == encoder.signature
    assert (again.limits, again.lm.info) == (encoder.limits, encoder.lm.info)


def test_calibration_and_post_processing_come_along(lm, tmp_path):
    calibration = kvlens.static_prefix(kvlens.record(lm, TEXTS * 3))
    encoder = Encoder(lm, "static_prefix", layers=[1], calibration=calibration)
    encoder.fit_post("zscore", TEXTS)
    save_encoder(encoder, tmp_path / "saved")
    again = load_encoder(tmp_path / "saved")
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
    assert (again.signature, again.post.kind) == (encoder.signature, "zscore")


def test_what_has_changed_is_refused(encoder, tmp_path):
    record = save_encoder(encoder, tmp_path / "saved")
    assert kvlens.open(tmp_path / "saved" / RECORD) == record
    config = tmp_path / "saved" / MODEL / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(InputError, match="has changed since the encoder was saved"):
        load_encoder(tmp_path / "saved")


@pytest.fixture(scope="module")
def saved(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sbert") / "my-encoder"
    as_sentence_transformer(encoder).save_pretrained(str(folder))
    return folder


def test_sentence_transformers_loads_what_it_saved(encoder, saved):
    """In a process of its own, as a user's; and not without being told that kvlens is meant."""
    code = (
        "import json, sys; from sentence_transformers import SentenceTransformer as S;"
        "enc = S(sys.argv[1], trust_remote_code=True); texts = json.loads(sys.argv[2]);"
        "print(json.dumps([enc.encode(texts).tolist(), enc.encode_query(texts).tolist()]))"
    )
    command = [sys.executable, "-c", code, str(saved), json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    documents, queries = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(documents, encoder.encode(TEXTS), atol=2e-6)
    np.testing.assert_allclose(queries, encoder.encode_query(TEXTS), atol=2e-6)


def test_it_is_not_loaded_without_trust(saved):
    from sentence_transformers import SentenceTransformer

    with pytest.raises(ValueError, match="trust_remote_code"):
        SentenceTransformer(str(saved))


def test_a_chat_template_is_left_alone(lm, tmp_path):
    """sentence-transformers puts texts of models that have one inside it, unless one tells it."""
    from sentence_transformers import SentenceTransformer

    chatty = pickle.loads(pickle.dumps(lm))
    chatty.tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    plain = Encoder(lm, "mean").encode(TEXTS)
    as_sentence_transformer(Encoder(chatty, "mean")).save_pretrained(str(tmp_path / "chatty"))
    loaded = SentenceTransformer(str(tmp_path / "chatty"), trust_remote_code=True)
    np.testing.assert_allclose(loaded.encode(TEXTS), plain, atol=2e-6)
    assert loaded.tokenizer.chat_template


def test_prompts_that_a_tool_leaves_empty_are_the_own_ones(encoder, saved):
    """As LlamaIndex loads it; a bare text has to be asked for by itself."""
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "", "text": ""}
    loaded = SentenceTransformer(str(saved), trust_remote_code=True, prompts=prompts)
    for name, own in (("query", "query"), ("text", "document")):
        np.testing.assert_allclose(
            loaded.encode(TEXTS, prompt_name=name), encoder.encode(TEXTS, own), atol=2e-6
        )
    np.testing.assert_allclose(
        loaded.encode(TEXTS, prompt=""), encoder.encode(TEXTS, prompt=""), atol=2e-6
    )


def test_a_pickled_one_is_the_same(sbert, encoder):
    again = pickle.loads(pickle.dumps(sbert))
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=2e-6)
    assert again[0].encoder.lm.hf is again[0].model is not encoder.lm.hf


def test_token_embeddings_are_what_is_pooled(sbert, lm):
    mean = as_sentence_transformer(Encoder(lm, "mean"))
    tokens = mean.encode(TEXTS, output_value="token_embeddings")
    vectors = mean.encode(TEXTS, convert_to_tensor=True)
    for states, vector in zip(tokens, vectors, strict=True):
        torch.testing.assert_close(states.mean(0), vector, atol=2e-6, rtol=0)
    assert {states.shape[1] for states in sbert.encode(TEXTS, output_value="token_embeddings")} == {
        32
    }


def test_a_model_that_is_cast_is_found_anew(lm):
    module = as_sentence_transformer(Encoder(pickle.loads(pickle.dumps(lm)), layers=[1]))
    before = module.encode(TEXTS)
    module.to(torch.bfloat16)
    assert module[0].encoder.lm.info.dtype == "bfloat16"
    np.testing.assert_allclose(module.encode(TEXTS), before, atol=0.05)
    module.to(torch.float32)
    assert module[0].encoder.lm.info.dtype == "float32"


def test_the_length_can_be_set(lm):
    module = as_sentence_transformer(Encoder(lm, "mean"))
    module.max_seq_length = 3
    assert module[0].encoder.max_length == module.max_seq_length == 3
    np.testing.assert_allclose(
        module.encode(["a b c d e f g"]),
        Encoder(lm, "mean", max_length=3).encode(["a b c d e f g"]),
    )


def test_other_options_of_loading_are_refused(saved):
    from sentence_transformers import SentenceTransformer

    with pytest.raises(InputError, match="dtype and device_map, not 'attn_implementation'"):
        SentenceTransformer(
            str(saved), trust_remote_code=True, model_kwargs={"attn_implementation": "eager"}
        )
    half = SentenceTransformer(
        str(saved), trust_remote_code=True, model_kwargs={"dtype": torch.bfloat16}
    )
    assert half[0].encoder.lm.info.dtype == "bfloat16"
