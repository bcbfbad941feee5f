"""`kvlens embed` on a small model: the vectors with their ids, and what is refused."""

import json

import numpy as np
import pytest

import kvlens

EMBED = "embed @llama --layers @for-embed/layers.json -i @rows.csv --column body"


@pytest.fixture(scope="module")
def layers(place, run):
    profile = "profile @llama --texts @texts.txt -o @for-embed --rule explicit --layers 1,2"
    assert run(profile) == 0
    return place / "for-embed" / "layers.json"


def test_it_writes_vectors_with_their_ids(place, run, layers, capsys):
    capsys.readouterr()
    assert run(f"{EMBED} --id-column id -o @v.npy --normalize --json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 80
    written = kvlens.load_vectors(place / "v.npy")
    encoder = kvlens.Encoder(kvlens.load(place / "llama"), layers=layers)
    texts = kvlens.read_texts(place / "rows.csv", "body")
    expected = encoder.encode(texts.items, normalize_embeddings=True)
    np.testing.assert_allclose(written.vectors, expected, atol=1e-6)
    assert list(written.ids) == [str(i) for i in range(80)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{EMBED} -o @there.npy", "--overwrite"),
        (f"{EMBED} -o @v.txt", ".npy"),
        (f"{EMBED.replace('@llama', '@gpt2')} -o @w.npy", "was made for"),
        ("embed @llama -i @rows.csv --column body -o @w.npy", "kv_embedding needs layers"),
        ("embed @llama --layers 7 -i @texts.txt -o @w.npy", "layer 7 is outside"),
        (f"{EMBED} -o @w.npy --post whiten", "no whiten is fitted"),
        (f"{EMBED} -o @w.npy --method magic", "unknown method 'magic'"),
    ],
)
def test_what_cannot_be_embedded_is_refused_in_a_line(place, run, layers, line, message, capsys):
    (place / "there.npy").write_bytes(b"")
    capsys.readouterr()
    assert run(line) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert not (place / "w.npy").exists()
