"""What a recorded model's name means here: of each kind of name, without loading or fetching."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from zoo import tiny

import kvlens
from kvlens.models.catalog import NAMED
from kvlens.models.locating import locate
from kvlens.models.present import model_here, tokenizer_here
from kvlens.store.here import places_of

COMMIT = "a" * 40
LATER = "b" * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("present") / "model"
    lm = tiny("llama")
    lm.hf.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub cache; call it with the commits that it has, and what main is."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def fill(commits, main):
        repository = tmp_path / "models--org--name"
        for commit in commits:
            (repository / "snapshots" / commit).mkdir(parents=True)
            (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(main)

    return fill


def test_a_directory_is_what_loading_says(folder):
    info = kvlens.load(folder).info
    here = model_here(info.name, info.revision, [folder])
    assert (here.content, here.place) == (info.revision, folder)
    assert tokenizer_here(here.place).content == info.tokenizer
    assert places_of("model", [folder.parent / "absent", folder.parent]) == [folder]
    assert places_of(str(folder), [Path()]) == [folder]


def test_code_counts_where_it_was_run(folder, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(folder, place)
    (place / "own.py").write_text("")
    plain = locate(str(place)).revision
    trusted = locate(str(place), trust_remote_code=True).revision
    for revision in (plain, trusted):
        assert model_here("model", revision, [place]).content == revision
    assert model_here("model", "sha256:0", [place]).content == plain


def test_a_gguf_file_is_hashed_and_not_converted(tmp_path, monkeypatch):
    monkeypatch.setenv("KVLENS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")
    here = model_here(str(path), "sha256:0", [path])
    assert here.content == f"sha256:{hashlib.sha256(b'GGUF').hexdigest()}"
    assert here.place is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", NAMED)
def test_a_named_model_is_pinned_whether_it_is_here_or_not(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KVLENS_CACHE", str(tmp_path))
    here = model_here(name, "sha256:0")
    assert here.content == f"sha256:{NAMED[name].sha256}"
    assert "fetched at its first use" in here.note
    assert list(tmp_path.iterdir()) == []


def test_a_commit_of_the_hub_is_here_or_another_one_is(hub):
    hub([COMMIT, LATER], LATER)
    here = model_here("org/name", COMMIT)
    assert (here.content, here.place.name) == (COMMIT, COMMIT)
    assert "main is bbbbbbbbbbbb here" in here.note
    here = model_here("org/name", LATER)
    assert (here.content, here.note) == (LATER, "")
    assert model_here("org/name", "c" * 40).content == LATER


def test_a_model_of_the_hub_that_is_not_here(hub):
    here = model_here("org/name", COMMIT)
    assert (here.content, here.exists) == (None, False)
    assert "not in the local hub cache" in here.note


@pytest.mark.parametrize(
    "name", ["", "tiny-llama", "~nobody/x", "a\0b", "x" * 5000, "../..", "a//b"]
)
def test_any_name_can_stand_in_a_file(name, hub, tmp_path):
    here = model_here(name, "sha256:0", places_of(name, [tmp_path]))
    assert (here.content, here.exists) == (None, False)
    assert "no model directory" in here.note


def test_code_in_a_tokenizer_folder_is_not_run(folder, tmp_path):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", None]}
    config["tokenizer_class"] = "Tokenizer"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    tokenizer_here(tmp_path)
    assert not (tmp_path / "ran").exists()
