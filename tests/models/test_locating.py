"""What decides a model's identity: every file that is loaded, and none outside the folder."""

import json
import os

import pytest
from model_folders import in_shards, saved

import kvlens
from kvlens import InputError
from kvlens.models.locating import locate

# Of the flat folder below, by the code of version 0.1.0: it names saved layer sets.
FLAT = "sha256:ed89e0334f17dc32bdea86a9a13170901119fdb6e6a1a401178345b90a5f870b"


def revision(folder, **options):
    return locate(str(folder), **options).revision


def test_the_digest_of_a_flat_folder_stays(tmp_path):
    files = {
        "config.json": '{"model_type": "llama"}',
        "model.safetensors": "weights",
        "tokenizer.json": "{}",
        "merges.txt": "a t\n",
        "spiece.model": "pieces",
        "README.md": "not read",
        "modeling.py": "not run",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "logs.json").mkdir()
    assert revision(tmp_path) == FLAT


def test_weights_below_the_folder_count(tmp_path):
    folder = in_shards(tmp_path)
    before = revision(folder)
    assert kvlens.load(folder).info.revision == before
    (folder / "more" / "notes.txt").write_text("not loaded")
    assert revision(folder) == before
    shard = next((folder / "more").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert revision(folder) != before


def test_code_counts_where_it_is_run(tmp_path):
    folder = saved(tmp_path)
    plain = revision(folder)
    (folder / "modeling.py").write_text("x = 1\n")
    assert revision(folder) == plain
    first = revision(folder, trust_remote_code=True)
    (folder / "modeling.py").write_text("x = 2\n")
    second = revision(folder, trust_remote_code=True)
    assert len({plain, first, second}) == 3


@pytest.mark.parametrize(
    "name",
    [
        "/tmp/model.safetensors",
        "../other/model.safetensors",
        "more/../../model.safetensors",
        "pytorch_model.bin",
        "",
        3,
        None,
        ["model.safetensors"],
    ],
)
def test_an_index_names_safetensors_in_the_folder(tmp_path, name):
    folder = in_shards(tmp_path)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.norm.weight"] = name
    index.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"index\.json names .* as weights: only safetensors in"):
        kvlens.load(folder)


def test_a_shard_that_is_missing_is_named(tmp_path):
    folder = in_shards(tmp_path)
    shard = next((folder / "more").glob("*.safetensors"))
    shard.unlink()
    with pytest.raises(InputError, match=f"has no more/{shard.name}: copy the whole model"):
        kvlens.load(folder)


def test_weights_that_a_config_names_are_in_the_folder(tmp_path):
    folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    before = revision(folder)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    for name, message in (("other.safetensors", ""), ("../x.safetensors", "names '../x.safe")):
        (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": name}))
        if not message:
            assert kvlens.load(folder).info.revision != before
            continue
        with pytest.raises(InputError, match=message):
            kvlens.load(folder)


def test_a_snapshot_of_the_hub_is_links_to_blobs(tmp_path):
    """As the hub's cache keeps it: every file is a link to a blob outside the snapshot."""
    plain = in_shards(tmp_path)
    repository = tmp_path / "models--org--name"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / ("a" * 40)
    blobs.mkdir(parents=True)
    for file in (path for path in plain.rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(plain)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = blobs / f"blob-{file.name}"
        blob.write_bytes(file.read_bytes())
        link.symlink_to(os.path.relpath(blob, link.parent))
    assert kvlens.load(snapshot).info.revision == revision(plain)


def test_the_hub_s_cache_is_read_without_network(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--name"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    saved(repository / "snapshots").rename(repository / "snapshots" / ("a" * 40))
    assert kvlens.load("org/name").info.revision == "a" * 40
    (repository / "snapshots" / ("a" * 40) / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"adapter_config\.json names an adapter"):
        kvlens.load("org/name")
