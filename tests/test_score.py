import json
import re

import numpy as np
import pytest
from conftest import tiny
from scipy.stats import rankdata

from kvlens import Encoder, InputError
from kvlens.cli import main
from kvlens.evaluation.pair_score import score_pairs
from kvlens.texts.pairs import read_pairs


def test_score_is_the_rank_correlation_of_cosines(pairs_file):
    encoder = Encoder(tiny("llama"), "mean")
    pairs = read_pairs(pairs_file)
    found = score_pairs(encoder, pairs)
    a, b = encoder.encode(pairs.first), encoder.encode(pairs.second)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = np.corrcoef(rankdata(cosines), rankdata(pairs.scores))[0, 1]
    assert found.spearman == pytest.approx(100 * expected, abs=1e-3)
    assert found.low < found.spearman < found.high
    assert found.n == 40
    assert score_pairs(encoder, pairs) == found


def test_bad_pairs(tmp_path, pairs_file):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n{"sentence1": "a"}\n')
    with pytest.raises(InputError, match="line 2: needs sentence1, sentence2 and score"):
        read_pairs(bad)
    for row in (
        '{"sentence1": "a", "sentence2": null, "score": 1}',
        '{"sentence1": "a", "sentence2": "b", "score": NaN}',
    ):
        bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n' + row)
        with pytest.raises(InputError, match="line 2: needs sentence1, sentence2 and score"):
            read_pairs(bad)
    bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n' * 12)
    with pytest.raises(InputError, match="all 12 scores are equal"):
        read_pairs(bad)
    with pytest.raises(InputError, match="has 5 pairs, at least 10"):
        read_pairs(pairs_file, 5)
    with pytest.raises(InputError, match="cannot read"):
        read_pairs(tmp_path / "absent")


def test_on_the_terminal(tmp_path, pairs_file, capsys):
    lm = tiny("gpt2")
    lm.hf.save_pretrained(tmp_path / "gpt2")
    lm.tokenizer.save_pretrained(tmp_path / "gpt2")
    model = str(tmp_path / "gpt2")
    command = [
        "score",
        model,
        "--pairs",
        str(pairs_file),
        "--methods",
        "kv_embedding,mean",
        "--layers",
        "1-2",
    ]
    assert main([*command, "--prompts", "raw,kv-document-inner", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["prompt"]) for row in rows] == [
        (method, prompt)
        for method in ("kv_embedding", "mean")
        for prompt in ("raw", "kv-document-inner")
    ]
    assert main(["score", model, "--pairs", str(pairs_file)]) == 2
    assert "kv_embedding needs layers" in capsys.readouterr().err


def test_bench_of_methods(tmp_path, capsys):
    lm = tiny("llama")
    lm.hf.save_pretrained(tmp_path / "llama")
    lm.tokenizer.save_pretrained(tmp_path / "llama")
    (tmp_path / "texts.txt").write_text("\n".join(f"a text number {i}" for i in range(20)))
    command = [
        "bench",
        str(tmp_path / "llama"),
        "--texts",
        str(tmp_path / "texts.txt"),
        "--repeats",
        "2",
    ]
    assert main([*command, "--methods", "kv_embedding,echo", "--layers", "1,2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["measured"] for row in rows] == [
        "kv_embedding / plain",
        "echo / plain",
        "echo / kv_embedding",
    ]
    assert all(float(re.match(r"[\d.]+", row["cpu"])[0]) > 0 for row in rows)
