"""`kvlens embed` on a small model: the vectors with their ids, and what is refused."""

import json

import numpy as np
import pytest
from killed import RENAMES, killed_before

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


def test_a_killed_run_goes_on_and_a_complete_one_says_so(place, run, layers, capsys):
    command = f"{EMBED} -o @killed.npy --chunk 20"
    assert run(command.replace("killed", "whole")) == 0
    whole = (place / "whole.npy").read_bytes()
    # Before the array's name: run.json, the index, four chunks, the file of ids went before.
    assert killed_before(9, lambda: run(command), RENAMES)
    assert (place / "killed.npy.json").exists()
    assert not (place / "killed.npy").exists()
    capsys.readouterr()
    assert run(command) == 2
    assert "has a stopped run: --resume continues it, --overwrite" in capsys.readouterr().err
    damaged = place / "killed.npy.part" / "000000020.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    assert run(f"{command} --resume") == 0
    err = capsys.readouterr().err
    assert err.startswith("note: 1 of 4 chunks in ")
    assert err.count("\n") == 1
    assert (place / "killed.npy").read_bytes() == whole
    assert run(f"{command} --resume") == 0
    out, err = capsys.readouterr()
    assert "complete already" in out
    assert not err


def test_repeated_ids_are_a_note(place, run, layers, capsys):
    (place / "twice.csv").write_text("id,body\n1,a b\n1,b c\n")
    capsys.readouterr()
    assert run(f"{EMBED.replace('rows', 'twice')} -o @twice.npy --json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["repeated_ids"] == 1
    assert err.startswith("note: twice.csv, column body: 1 of 2 rows have the id of an earlier row")
    assert "give --id-column another column" in err


def test_a_dry_run_tells_and_writes_nothing(place, run, layers, capsys):
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    for line in (
        f"{EMBED} -o @dry.npy --fit-post center",
        "record @llama --texts @texts.txt -o @dry --keep k,v",
        "profile @llama --texts @texts.txt -o @dry",
    ):
        capsys.readouterr()
        assert run(f"{line} --dry-run") == 0
        text = capsys.readouterr().out
        assert text.startswith("80 texts, ")
        assert text.endswith("nothing was written\n")
        assert run(f"{line} --dry-run --json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told["texts"] == 80
        assert told["tokens"] > 80
        assert told["minutes"] >= 0
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
