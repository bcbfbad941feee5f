"""`kvlens lens`: what it writes is what Python gives."""

import contextlib
import io
import json

import numpy as np
import pytest
from point_cases import LINES
from zoo import tiny

import kvlens
from kvlens.analysis.lens import KVLens, kv_lens
from kvlens.analysis.method_geometry import Geometry
from kvlens.cli import main


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    """`kvlens lens` on a small model: its folder, what it printed, and both results."""
    place = tmp_path_factory.mktemp("look")
    lm = tiny("llama")
    lm.hf.save_pretrained(place / "llama")
    lm.tokenizer.save_pretrained(place / "llama")
    (place / "texts.txt").write_text("\n".join(LINES))
    pairs = [{"sentence1": LINES[i], "sentence2": LINES[i + 7], "score": i / 2} for i in range(12)]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setenv("KVLENS_CACHE", str(place / "cache"))
        command = ["lens", f"{place}/llama", "-o", f"{place}/out", "--layers", "1-2"]
        command += ["--texts", f"{place}/texts.txt", "--n", "60", "--n-geometry", "30"]
        command += ["--pairs", f"{place}/pairs.jsonl", "--methods", "mean,kv_embedding"]
        assert main(command) == 0
        assert main(command) == 2  # the folder is there already
    return (
        place,
        out.getvalue(),
        KVLens.load(place / "out/kv_lens.json"),
        Geometry.load(place / "out/geometry.json"),
    )


@pytest.mark.slow
def test_the_command_writes_what_python_gives(look):
    place, printed, lens, geometry = look
    assert "uniformity" in printed
    assert "kv_ranks.pdf" in printed
    assert "id.png" in printed
    assert (lens.texts.n, geometry.n, geometry.n_pairs) == (60, 30, 3)  # scores 4.5, 5 and 5.5
    assert geometry.pairs.endswith("/pairs.jsonl, score above 4")
    assert "--n-geometry 30" in geometry.command
    lm = kvlens.load(str(place / "llama"))
    trace = kvlens.record(lm, LINES[:60])
    for states in ("hidden", "k", "v"):
        saved = kvlens.IDProfile.load(place / f"out/id_{states}.json")
        np.testing.assert_allclose(
            saved.values("twonn"), kvlens.estimate(trace, states).values("twonn"), rtol=1e-2
        )
    again = kv_lens(trace, kvlens.Encoder(lm, "kv_embedding", (1, 2)).encode(LINES[:60]))
    for written, computed in zip(lens.spectra, again.spectra, strict=True):
        assert written.effective_rank == pytest.approx(computed.effective_rank, rel=1e-4)
    for written, computed in zip(lens.similarities, again.similarities, strict=True):
        assert written.value == pytest.approx(computed.value, abs=1e-3)


@pytest.fixture
def words(look, monkeypatch, capsys):
    """`kvlens lens MODEL --words` with more: its exit code, and what it said."""
    place, *_ = look
    monkeypatch.setenv("KVLENS_CACHE", str(place / "cache"))

    def run(*more):
        code = main(["lens", f"{place}/llama", "--words", *map(str, more)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.slow
def test_words_are_those_of_python_and_stand_in_a_table(look, words, tmp_path):
    place, *_ = look
    texts = ["--texts", place / "texts.txt", "--n-words", 9]
    code, out, _ = words("-o", tmp_path / "out", "--layers", 2, *texts)
    assert code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"word_lens.json", "own_words.png", "words_2.pdf", "word_heads.png"} <= names
    lens = kvlens.WordLens.load(tmp_path / "out/word_lens.json")
    lm = kvlens.load(str(place / "llama"))
    embeddings = kvlens.Encoder(lm, "kv_embedding", (2,)).encode(LINES[:9])
    again = kvlens.word_lens(lm, LINES[:9], embeddings)
    assert [each.own for each in lens.shares] == [each.own for each in again.shares]
    assert "--n-words 9" in lens.command
    lines = out.splitlines()
    assert lines[0] == f"text 1: {LINES[0]}"
    (last,) = (line for line in lines if line.startswith("        3  "))
    share = lens.shares_of("hidden", centred=True)[3]
    assert f"{share.own:.2f} ({share.other:.2f})" in last
    assert any(line.startswith("embedding") for line in lines)
    assert "left out: values of layer 0, centred: they are the same for every text" in lines


@pytest.mark.slow
def test_words_of_one_text_and_what_is_refused(look, words, tmp_path):
    place, *_ = look
    out = tmp_path / "one"
    code, said, _ = words("-o", out, "--text", "-a text \x1b[31m")
    assert code == 0
    assert said.startswith(r"text 1: -a text \x1b[31m")
    assert "another text" not in said
    assert kvlens.WordLens.load(out / "word_lens.json").texts.n == 1
    code, _, error = words("-o", tmp_path / "two", "--text", "a", "--texts", place / "texts.txt")
    assert (code, error) == (2, "kvlens: give either --text or --texts\n")
    assert not (tmp_path / "two").exists()
    code, _, error = words("-o", out, "--text", "a")
    assert code == 2
    assert error.count("\n") == 1
    assert main(["lens", f"{place}/llama", "-o", f"{tmp_path}/three"]) == 2
    assert (
        main(["lens", f"{place}/llama", "-o", f"{tmp_path}/3", "--layers", "1", "--text", "a"]) == 2
    )


@pytest.fixture
def low_rank(look, monkeypatch, capsys):
    """`kvlens lens MODEL --low-rank` with more: its exit code, and what it said."""
    place, *_ = look
    monkeypatch.setenv("KVLENS_CACHE", str(place / "cache"))

    def run(*more):
        code = main(["lens", f"{place}/llama", "--low-rank", *map(str, more)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.slow
def test_low_rank_cuts_are_those_of_python(look, low_rank, tmp_path):
    place, *_ = look
    texts = ["--texts", place / "texts.txt", "--n-low-rank", 3]
    code, out, _ = low_rank("-o", tmp_path / "out", "--threshold", 0.9, *texts)
    assert code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"low_rank.json", "low_rank.png", "low_rank.pdf", "lens.toml"}
    written = kvlens.LowRank.load(tmp_path / "out/low_rank.json")
    again = kvlens.low_rank(kvlens.load(str(place / "llama")), LINES[:3], threshold=0.9)
    assert written.cuts == again.cuts
    assert "a mean cosine of 0.9" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layers", "1"], "--low-rank cuts the plain model's weights: give no --layers"),
        (["--words"], "give --words or --low-rank, one at a time"),
        (["--threshold", "2"], "--threshold is 2"),
    ],
)
def test_what_low_rank_does_not_take_is_one_line(low_rank, tmp_path, options, said):
    code, _, err = low_rank("-o", tmp_path / "out", "--text", "a text", *options)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
