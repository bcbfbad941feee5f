"""Every file that version 0.1.0 saved still loads, with its values; see data/v0.1.0/README.md."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from zoo import tiny

import kvlens

# --- PATHS OF WHAT `kvlens` ITSELF DOES NOT NAME: the only ones in this file --------------------
from kvlens.analysis.attention import AttentionPatterns
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.regret import LayerStudy

# ------------------------------------------------------------------------------------------------

DATA = Path(__file__).parent / "data" / "v0.1.0"
EXPECTED = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
RECORDS = {
    "profile.json": kvlens.IDProfile,
    "profile_v.json": kvlens.IDProfile,
    "layers.json": kvlens.LayerSet,
    "layers_explicit.json": kvlens.LayerSet,
    "sweep.json": Sweep,
    "study.json": LayerStudy,
    "scores.json": kvlens.Scores,
    "geometry.json": kvlens.Geometry,
    "kv_lens.json": kvlens.KVLens,
}
CONTAINERS = {
    "trace.safetensors": kvlens.Trace,
    "trace_all.safetensors": kvlens.Trace,
    "post-zscore.safetensors": kvlens.Post,
    "post-whiten.safetensors": kvlens.Post,
    "shift.safetensors": kvlens.AttentionShift,
    "patterns.safetensors": AttentionPatterns,
}
VECTORS = ("vectors.npy", "vectors.safetensors", "vectors.parquet")


def old_model():
    """tiny("llama") with weights of the same bits on every machine, as torch's own are not."""
    lm = tiny("llama")
    for name, weight in lm.hf.named_parameters():
        if weight.ndim == 2:
            data = np.frombuffer(hashlib.shake_256(name.encode()).digest(weight.numel()), np.int8)
            weight.data = torch.from_numpy(data.astype(np.float32) * 3 / 1024).reshape(weight.shape)
    return kvlens.LanguageModel.wrap(lm.hf, lm.tokenizer, name="tiny-llama")


@pytest.fixture(scope="module")
def lm():
    return old_model()


@pytest.fixture(scope="module")
def texts():
    lines = (DATA / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def plain(value):
    """`value` as JSON holds it."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value


def reach(value, path):
    """The value at a path of attributes, keys and positions, such as estimates.twonn.0."""
    for name in path.split("."):
        if isinstance(value, dict):
            value = value[name]
        else:
            value = value[int(name)] if isinstance(value, list | tuple) else getattr(value, name)
    return plain(value)


def arrays_of(found):
    """Every array of what a safetensors file holds, by its name there."""
    if isinstance(found, kvlens.Post):
        return {"mean": found.mean, "matrix": found.matrix}
    arrays = found.tensors if isinstance(found, kvlens.Trace) else found.arrays
    return {name: np.asarray(array) for name, array in arrays.items()}


def check_fields(found, file):
    for path, value in EXPECTED[file]["fields"].items():
        if path != "ids":
            assert reach(found, path) == value, path


def check_model(found):
    assert plain(found.model) == EXPECTED["model"]
    assert found.versions.items() >= EXPECTED["versions"].items()


def check_arrays(arrays, file):
    """Shapes, types, means and last elements as they were when the file was made."""
    assert arrays.keys() == EXPECTED[file]["arrays"].keys()
    for name, told in EXPECTED[file]["arrays"].items():
        array = arrays[name]
        assert (list(array.shape), str(array.dtype)) == (told["shape"], told["dtype"]), name
        assert np.nanmean(array.astype(np.float64)) == pytest.approx(told["mean"], rel=0, abs=1e-6)
        last = np.nan if told["last"] is None else told["last"]
        assert float(array.flat[-1]) == pytest.approx(last, rel=0, abs=1e-6, nan_ok=True), name


def header(path):
    """The header's content; 0.1.0 wrote that of attention results as [format, version, fields]."""
    with safe_open(path, framework="np") as file:
        content = json.loads(file.metadata()["kvlens"])
    if isinstance(content, list):
        content = {"format": content[0], "version": content[1], **content[2]}
    return content


def test_every_file_is_tested():
    others = {"README.md", "expected.json", "texts.jsonl", "pairs.jsonl", "layerset.schema.json"}
    beside = {"vectors.npy.json", "stopped.npy.part"}
    assert {path.name for path in DATA.iterdir()} == {
        *RECORDS,
        *CONTAINERS,
        *VECTORS,
    } | others | beside


@pytest.mark.parametrize("file", RECORDS)
def test_a_record_loads_with_its_values_and_saves_again(file, tmp_path):
    found = RECORDS[file].load(DATA / file)
    assert type(found) is RECORDS[file]
    check_model(found)
    check_fields(found, file)
    assert RECORDS[file].load(found.save(tmp_path / file)) == found


@pytest.mark.parametrize("file", ["layers.json", "layers_explicit.json"])
def test_a_layer_set_saves_to_the_same_bytes(file, tmp_path):
    saved = kvlens.LayerSet.load(DATA / file).save(tmp_path / file)
    assert saved.read_bytes() == (DATA / file).read_bytes()


@pytest.mark.parametrize("file", CONTAINERS)
def test_a_container_loads_with_its_values_and_saves_again(file, tmp_path):
    kind, stored = CONTAINERS[file], load_file(DATA / file)
    found = kind.load(DATA / file)
    if kind is not kvlens.Post:
        check_model(found)
    check_fields(found, file)
    check_arrays(arrays_of(found), file)
    saved = found.save(tmp_path / file)
    assert header(saved) == header(DATA / file)
    for arrays in (arrays_of(found), load_file(saved), arrays_of(kind.load(saved))):
        assert arrays.keys() == stored.keys()
        for name, array in arrays.items():
            assert array.dtype == stored[name].dtype, name
            np.testing.assert_array_equal(array, stored[name], strict=True)


@pytest.mark.parametrize("file", VECTORS)
def test_embedding_files_load_with_ids_and_provenance(file):
    with pytest.warns(UserWarning, match="carries no hash"):
        found = kvlens.load_vectors(DATA / file)
    assert (found.info.version, found.info.sha256) == (1, "")
    check_model(found.info)
    check_fields(found.info, file)
    assert list(found.ids) == EXPECTED[file]["fields"]["ids"] == [f"row-{i}" for i in range(12)]
    check_arrays({"vectors": found.vectors}, file)
    if file.endswith(".safetensors"):
        np.testing.assert_array_equal(found.vectors, load_file(DATA / file)["vectors"])
    if file.endswith(".npy"):
        np.testing.assert_array_equal(found.vectors, np.load(DATA / file))
    # Rows 0 and 5 are the same text.
    np.testing.assert_array_equal(found.vectors[0], found.vectors[5])


def test_what_the_records_answer():
    told = EXPECTED["lists"]
    profile = kvlens.IDProfile.load(DATA / "profile.json")
    estimates = EXPECTED["profile.json"]["fields"]["estimates.twonn"]
    np.testing.assert_array_equal(profile.values("twonn"), [one["value"] for one in estimates])
    np.testing.assert_array_equal(profile.stderrs("twonn"), [one["stderr"] for one in estimates])
    layers = kvlens.LayerSet.load(DATA / "layers.json")
    assert layers.profile == profile
    # Selection on the old profile gives the old choice.
    again = kvlens.select(profile, "paper")
    assert (again.layers, again.shape) == (layers.layers, layers.shape)
    swept = Sweep.load(DATA / "sweep.json")
    for name in ("windows", "sets"):
        found = [[w.first, w.width, list(w.layers), w.bias] for w in getattr(swept, name)]
        assert found == told[name], name
    assert swept.find((3, 0), 3.0).layers == (0, 3)
    assert swept.find((0, 1, 2), 1.0) is None
    judged = LayerStudy.load(DATA / "study.json")
    outcomes = [[o.rule, o.states, o.points, o.width, o.bias, o.layers] for o in judged.outcomes]
    assert plain(outcomes) == told["outcomes"]
    correlations = [[c.states, c.points, c.width, c.bias, c.n] for c in judged.correlations]
    assert correlations == told["correlations"]
    lens = kvlens.KVLens.load(DATA / "kv_lens.json")
    assert [[s.kind, s.layer, s.head, s.n, s.d] for s in lens.spectra] == told["spectra"]
    assert [[s.kind, s.layer, s.measure, s.n] for s in lens.similarities] == told["similarities"]
    assert [one.layer for one in lens.spectra_of("v", head=1)] == [1, 2, 3]
    geometry = kvlens.Geometry.load(DATA / "geometry.json")
    assert list(geometry.cosines) == [one.label for one in geometry.methods] == told["labels"]
    assert np.array(geometry.cosines["kv_embedding"]).shape == (12, 12)
    table = kvlens.Scores.load(DATA / "scores.json").table()
    assert "61.5- (53.0 to 68.5)" in table
    assert "13.3+ (9.0 to 18.1)" in table


def test_what_the_containers_answer():
    stored = load_file(DATA / "trace.safetensors")
    trace = kvlens.Trace.load(DATA / "trace.safetensors")
    kv = np.concatenate([stored[kind][:, 2].reshape(3, -1) for kind in ("k", "v")], axis=1)
    np.testing.assert_array_equal(trace.states(2, "kv"), kv)
    every = kvlens.Trace.load(DATA / "trace_all.safetensors")
    assert every.text_index.tolist() == [0] * 7 + [1] * 8 + [2] * 6
    hidden = load_file(DATA / "trace_all.safetensors")["hidden"]
    np.testing.assert_array_equal(every.states(3), hidden[:, 1])
    shift = kvlens.AttentionShift.load(DATA / "shift.safetensors")
    ends = load_file(DATA / "shift.safetensors")["ends.local"]
    mean, spread, n = shift.ends("local")
    # The fourth text is empty, and has no ends.
    assert (n, np.isnan(ends[3]).all()) == (3, True)
    np.testing.assert_allclose(mean, ends[:3].mean(-1).mean(0), atol=1e-6)
    np.testing.assert_allclose(spread, ends[:3].mean(-1).std(0, ddof=1), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*carries no hash")
def test_a_layer_set_and_post_processing_make_the_old_vectors(lm, texts, tmp_path):
    """The model is known again, the encoder's signature is the old one, and the vectors are."""
    encoder = kvlens.Encoder(lm, layers=DATA / "layers.json")
    raw = kvlens.load_vectors(DATA / "vectors.npy")
    assert plain(lm.info) == EXPECTED["model"]
    assert encoder.signature == raw.info.encoder
    np.testing.assert_allclose(encoder.encode(texts), raw.vectors, atol=1e-5)
    old = kvlens.load_vectors(DATA / "vectors.safetensors")
    whitened = kvlens.Encoder(
        lm, layers=DATA / "layers.json", post=DATA / "post-whiten.safetensors"
    )
    found = whitened.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(found, old.vectors, atol=1e-5)
    old = kvlens.load_vectors(DATA / "vectors.parquet")
    found = encoder.encode_query(texts, truncate_dim=6)
    np.testing.assert_allclose(found, old.vectors, atol=1e-5)
    # By its kind alone, a post-processing is found beside the layer set under its signature.
    shutil.copy(DATA / "layers.json", tmp_path)
    name = f"post-zscore-{encoder.signature}.safetensors"
    shutil.copy(DATA / "post-zscore.safetensors", tmp_path / name)
    named = kvlens.Encoder(lm, layers=tmp_path / "layers.json", post="zscore")
    post = kvlens.Post.load(DATA / "post-zscore.safetensors")
    expected = (raw.vectors - post.mean) @ post.matrix
    np.testing.assert_allclose(named.encode(texts), expected, rtol=1e-5, atol=1e-4)


def test_a_layer_set_with_a_bias_per_layer_is_taken_whole(lm):
    encoder = kvlens.Encoder(lm, layers=DATA / "layers_explicit.json")
    method = encoder.method
    assert (method.layers, method.bias, method.position) == ((1, 3), (1.0, -0.5), "origin")
    assert method.pooling == "mean"


def test_a_stopped_run_resumes(lm, tmp_path):
    """Its chunks carry no hash, so all are computed again, and that is said.

    Only the versions are made this installation's: a run does not resume under others.
    """
    encoder = kvlens.Encoder(lm, layers=DATA / "layers.json")
    source, part = DATA / "texts.jsonl", tmp_path / "stopped.npy.part"
    kvlens.embed_file(encoder, source, tmp_path / "whole.npy", chunk=4)
    whole = kvlens.load_vectors(tmp_path / "whole.npy")
    shutil.copytree(DATA / "stopped.npy.part", part)
    run = json.loads((part / "run.json").read_text(encoding="utf-8"))
    run["versions"] = whole.info.versions
    (part / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
    with pytest.raises(kvlens.InputError, match="has a stopped run"):
        kvlens.embed_file(encoder, source, tmp_path / "stopped.npy", chunk=4)
    with pytest.warns(UserWarning, match="2 of 2 chunks .* are computed again"):
        kvlens.embed_file(encoder, source, tmp_path / "stopped.npy", chunk=4, resume=True)
    assert not part.exists()
    found = kvlens.load_vectors(tmp_path / "stopped.npy")
    with pytest.warns(UserWarning, match="carries no hash"):
        old = kvlens.load_vectors(DATA / "vectors.npy")
    assert (found.ids, found.info) == (old.ids, whole.info)
    np.testing.assert_allclose(found.vectors, old.vectors, atol=1e-5)
    np.testing.assert_array_equal(found.vectors, whole.vectors)
    chunks = sorted((DATA / "stopped.npy.part").glob("*.safetensors"))
    stored = np.concatenate([load_file(file)["vectors"] for file in chunks])
    for row in stored:
        assert np.abs(found.vectors - row).max(1).min() < 1e-5
