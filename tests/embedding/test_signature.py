"""Signature: it changes with what decides a vector."""

import numpy as np
from embedding_cases import LAYERS, other
from zoo import tiny

from kvlens.embedding.encoder import Encoder
from kvlens.methods.registry import get_method, self_contained
from kvlens.texts.prompts import PROMPTS, Prompt


def test_signature_changes_with_what_matters_and_only_then(lm, encoder):
    renamed = Prompt(**{**PROMPTS["kv-query-inner"].model_dump(), "name": "mine", "source": "me"})
    same = [
        Encoder(lm, layers=np.array(LAYERS), bias=1, query=renamed, batch_tokens=77, strict=True),
        Encoder(lm, get_method("kv_embedding", layers=LAYERS), max_length=10_000),
        Encoder(other(lm, name="elsewhere/tiny", device="cuda:0"), layers=LAYERS),
    ]
    assert {twin.signature for twin in same} == {encoder.signature}
    assert [Encoder(tiny("llama"), layers=LAYERS).signature] == [encoder.signature]
    changed = [
        Encoder(lm, layers=(1, 3)),
        Encoder(lm, layers=(1, 2, 3)),
        Encoder(lm, layers=LAYERS, bias=2),
        Encoder(lm, layers=LAYERS, bias=(1, 2)),
        Encoder(lm, layers=LAYERS, position="origin"),
        Encoder(lm, layers=LAYERS, pooling="last"),
        Encoder(lm, layers=LAYERS, heads={LAYERS[0]: [0, 2]}),
        Encoder(lm, layers=LAYERS, value={LAYERS[0]: "zero"}),
        Encoder(lm, layers=LAYERS, query=PROMPTS["kv-query"]),
        Encoder(lm, layers=LAYERS, document=PROMPTS["kv-document"]),
        Encoder(lm, layers=LAYERS, max_length=99),
        *[Encoder(lm, name) for name in self_contained() if name != "kv_embedding"],
        Encoder(lm, "token_prepending", start=2),
        Encoder(lm, "value_aggregation", depth=(0.0, 0.5)),
        Encoder(other(lm, revision="sha256:other"), layers=LAYERS),
        Encoder(other(lm, tokenizer="other"), layers=LAYERS),
        Encoder(other(lm, dtype="bfloat16"), layers=LAYERS),
    ]
    signatures = {encoder.signature, *(variant.signature for variant in changed)}
    assert len(signatures) == 1 + len(changed)
