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
