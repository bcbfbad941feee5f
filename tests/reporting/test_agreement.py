"""`kvlens.verify`: a run that agrees, and every way in which one can cease to."""

import json
import os
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_old_files import DATA
from torture.damage import damaged
from zoo import tiny

import kvlens
from kvlens.evaluation.items_file import seal_of
from kvlens.studies.windows import windows
from kvlens.texts.pairs import read_pairs

SENTENCES = [
    f"{i} rivers and {'stones ' * (i % 7)}lie in the {'deep ' * (i % 5)}garden." for i in range(60)
]
ESCAPES = "\x1b[2J<script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, texts, pairs, and a run of them made there."""
    folder = tmp_path_factory.mktemp("made")
    before = Path.cwd()
    os.chdir(folder)
    try:
        _make_run()
    finally:
        os.chdir(before)
    return folder


def _make_run():
    wrapped = tiny("llama")
    wrapped.hf.save_pretrained("model")
    wrapped.tokenizer.save_pretrained("model")
    Path("texts.txt").write_text("\n".join(SENTENCES))
    pairs = [
        {"sentence1": SENTENCES[i], "sentence2": SENTENCES[i + 7], "score": i % 6}
        for i in range(20)
    ]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    lm = kvlens.load("model")
    texts = kvlens.read_texts("texts.txt")
    trace = kvlens.record(lm, texts)
    profile = kvlens.estimate(trace)
    layers = kvlens.select(profile)
    trace.save("run/trace.safetensors")
    profile.save("run/profile.json")
    layers.save("run/layers.json")
    sets = [*windows(4, (1,)), layers.layers]
    swept = kvlens.sweep(lm, read_pairs("pairs.jsonl"), sets, data="here/pairs.jsonl")
    swept.save("run/sweep.json")
    kvlens.study(swept, [profile]).save("run/study.json")
    shift = kvlens.attention_shift(lm, texts, layers)
    shift.save("run/attention/shift.safetensors")
    encoder = kvlens.Encoder(lm, layers="run/layers.json", max_length=200)
    encoder.fit_post("zscore", texts)
    kvlens.embed_file(encoder, "texts.txt", "run/vectors.npy")
    kvlens.report("run")


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of it, and the working folder."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def edit(path, **fields):
    """Change fields of a JSON file."""
    content = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**content, **fields}))


def flip(path, at):
    content = bytearray(Path(path).read_bytes())
    content[at] ^= 1
    Path(path).write_bytes(content)


def differing(path="run"):
    """File and what of every difference."""
    return {(check.file, check.what) for check in kvlens.verify(path).differing(strict=True)}


def verdicts(verification, what):
    return {check.verdict for check in verification.checks if check.what == what}


FILES = {
    "attention/shift.safetensors",
    "layers.json",
    "profile.json",
    "report.html",
    "study.json",
    "sweep.json",
    "trace.safetensors",
    "vectors.npy",
}


def test_a_run_agrees_with_what_it_was_made_with(here):
    verification = kvlens.verify("run")
    posts = {path.name for path in Path("run").glob("post-*")}
    assert {check.file for check in verification.checks} == FILES | posts
    assert verification.differing(strict=True) == ()
    by_what = {}
    for check in verification.checks:
        by_what.setdefault(check.what, set()).add(check.file)
        assert check.verdict == "agrees", check
    named = FILES - {"report.html"}
    assert by_what["model"] == by_what["tokenizer"] == by_what["torch"] == named
    assert by_what["texts"] == named - {"sweep.json", "study.json"}
    assert by_what["pairs"] == {"sweep.json"}
    assert by_what["same model"] == named - {"layers.json"}
    assert by_what["profile"] == {"layers.json", "study.json"}
    assert by_what["sweep"] == {"study.json"}
    assert by_what["same texts"] == {"trace.safetensors"}
    assert by_what["layer set"] == posts | {"attention/shift.safetensors"}
    assert by_what["post-processing"] == {"vectors.npy"}
    assert str(verification.counts) == f"{len(verification.checks)} checks agree."


def test_it_leaves_everything_as_it_was(here):
    def state():
        return {path: path.stat().st_mtime_ns for path in here.rglob("*")}

    before = state()
    kvlens.verify(".")
    assert state() == before


def test_it_agrees_from_any_folder(here, monkeypatch):
    monkeypatch.chdir("/")
    verification = kvlens.verify(here / "run" / "profile.json")
    assert not verification.differing()
    assert verdicts(verification, "model") == {"agrees"}
    assert verdicts(verification, "texts") == {"agrees"}
    assert {check.file for check in verification.checks} == {"profile.json"}


def test_a_changed_model_differs(here):
    flip("model/model.safetensors", -1)
    found = differing()
    assert found == {(file, "model") for file in FILES - {"report.html"}}
    (check,) = [c for c in kvlens.verify("run/layers.json").checks if c.what == "model"]
    assert check.expected == kvlens.LayerSet.load("run/layers.json").model.revision
    assert check.actual != check.expected
    assert "model is another one here: recorded sha256:" in check.words


def test_a_changed_tokenizer_differs(here):
    path = Path("model/tokenizer.json")
    path.write_text(path.read_text().replace("<eos>", "<end>"))
    found = differing("run/profile.json")
    assert found == {("profile.json", "model"), ("profile.json", "tokenizer")}


def test_a_damaged_model_folder_is_a_difference_or_a_doubt(here):
    Path("model/tokenizer.json").write_text("{")
    verification = kvlens.verify("run/profile.json")
    assert verdicts(verification, "model") == {"differs"}
    assert verdicts(verification, "tokenizer") == {"cannot tell"}


def test_a_model_that_is_not_here_cannot_be_told(here):
    shutil.rmtree("model")
    verification = kvlens.verify("run")
    assert not verification.differing()
    assert verdicts(verification, "model") == verdicts(verification, "tokenizer") == {"cannot tell"}
    assert "no model directory and no GGUF file of this name is here" in str(verification)


def test_changed_texts_differ(here):
    path = Path("texts.txt")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, "one more"]))
    assert differing() == set()  # the first 60 are the same
    path.write_text("\n".join([*lines[:-1], "another"]))
    read = {"attention/shift.safetensors", "layers.json", "profile.json"}
    read |= {"trace.safetensors", "vectors.npy"}
    assert differing() == {(file, "texts") for file in read}
    path.write_text("\n".join(lines[:-1]))
    assert "texts.txt has 59 texts, 60 were read" in str(kvlens.verify("run/profile.json"))
    path.write_bytes(b"\xff")
    assert differing("run/profile.json") == {("profile.json", "texts")}
    path.unlink()
    assert verdicts(kvlens.verify("run"), "texts") == {"cannot tell"}


def test_changed_pairs_differ(here):
    path = Path("pairs.jsonl")
    path.write_text(path.read_text().replace('"score": 5', '"score": 4'))
    assert differing() == {("sweep.json", "pairs")}
    path.unlink()
    assert verdicts(kvlens.verify("run"), "pairs") == {"cannot tell"}


def test_other_versions_are_said_and_count_only_strictly(here):
    versions = kvlens.LayerSet.load("run/layers.json").versions
    edit("run/layers.json", versions={**versions, "torch": "2.1", "nothing-of-it": "1.0"})
    verification = kvlens.verify("run/layers.json")
    assert verification.differing() == ()
    assert {check.what for check in verification.differing(strict=True)} == {
        "torch",
        "nothing-of-it",
    }
    line = (
        f"made with torch 2.1, here {versions['torch']}; nothing-of-it 1.0, here none: numbers may"
    )
    assert line in str(verification)
    assert "2 versions differ (numbers may differ in the last digits)" in str(verification)


def test_a_damaged_file_is_an_entry_and_not_the_end(here):
    for name in ("profile.json", "trace.safetensors", "vectors.npy"):
        path = Path("run", name)
        path.write_bytes(path.read_bytes()[:-200])
    found = differing()
    assert {
        (name, "file") for name in ("profile.json", "trace.safetensors", "vectors.npy")
    } <= found
    assert ("report.html", "profile.json") in found
    assert "not readable: " in str(kvlens.verify("run"))
    assert verdicts(kvlens.verify("run/profile.json"), "file") == {"differs"}


def test_a_lost_array_is_said(here):
    Path("run/vectors.npy").unlink()
    assert ("vectors.npy", "file") in differing()


def test_layers_of_another_profile(here):
    profile = kvlens.IDProfile.load("run/profile.json")
    estimates = {"mle": profile.estimates["mle"]}
    draws = profile.draws.model_copy(update={"values": {"mle": profile.draws.values["mle"]}})
    change = {"estimates": estimates, "draws": draws}
    profile.model_copy(update=change).save("run/profile.json")
    found = differing()
    assert ("layers.json", "profile") in found
    assert ("study.json", "profile") in found
    assert "it was chosen from a profile with other estimates, draws than profile.json" in str(
        kvlens.verify("run")
    )


def test_a_study_of_another_sweep(here):
    swept = kvlens.Sweep.load("run/sweep.json")
    first = swept.windows[0].model_copy(update={"spearman": -99.0})
    swept.model_copy(update={"windows": (first, *swept.windows[1:])}).save("run/sweep.json")
    study = kvlens.LayerStudy.load("run/study.json")
    is_told = any(outcome.layers == first.layers for outcome in study.outcomes)
    assert (("study.json", "sweep") in differing()) == is_told
    swept.model_copy(update={"plain": 1.0}).save("run/sweep.json")
    assert differing() == {("study.json", "sweep"), ("report.html", "sweep.json")}
    swept.model_copy(update={"windows": swept.windows[:1]}).save("run/sweep.json")
    assert ("study.json", "sweep") in differing()


def test_a_trace_of_other_texts(here):
    profile = kvlens.IDProfile.load("run/profile.json")
    texts = profile.texts.model_copy(update={"sha256": "0" * 64})
    profile.model_copy(update={"texts": texts}).save("run/profile.json")
    assert ("trace.safetensors", "same texts") in differing()


def test_other_layers(here):
    layers = kvlens.LayerSet.load("run/layers.json")
    layers.model_copy(update={"bias": 2.5}).save("run/layers.json")
    post = next(Path("run").glob("post-*")).name
    assert {("attention/shift.safetensors", "layer set"), (post, "layer set")} <= differing()


def test_a_readout_sweep_of_other_layers(here):
    lm = kvlens.load("model")
    layers = kvlens.LayerSet.load("run/layers.json")
    pairs = read_pairs("pairs.jsonl")
    swept = kvlens.readout_sweep(lm, pairs, "kv_embedding", layers, data="here/pairs.jsonl")
    swept.save("run/readout.json")
    assert ("readout.json", "layer set") not in differing()
    assert verdicts(kvlens.verify("run/readout.json"), "pairs") == {"agrees"}
    of_control = kvlens.readout_sweep(lm, pairs, data="here/pairs.jsonl")
    of_control.save("run/readout.json")
    assert ("readout.json", "layer set") not in differing()
    other = swept.model_copy(update={"settings": {**swept.settings, "bias": 3.0}})
    other.save("run/readout.json")
    assert ("readout.json", "layer set") in differing()
    kvlens.select(layers.profile, readout=1).save("run/layers.json")
    swept.save("run/readout.json")
    assert ("readout.json", "layer set") not in differing()


def test_another_fit(here):
    path = next(Path("run").glob("post-*"))
    flip(path, -1)
    assert differing() == {("vectors.npy", "post-processing")}


def test_a_file_of_another_model(here):
    swept = kvlens.Sweep.load("run/sweep.json")
    other = swept.model.model_copy(update={"revision": "sha256:" + "0" * 64})
    swept.model_copy(update={"model": other}).save("run/sweep.json")
    assert {("sweep.json", "same model"), ("sweep.json", "model")} <= differing()


def score(layers, **fields):
    prompts = layers.prompts
    settings = {
        "query": prompts.query.model_dump(),
        "document": prompts.document.model_dump(),
        "pooling": layers.pooling,
        "layers": list(layers.layers),
        "bias": layers.bias,
        "position": layers.position,
    }
    values = {"value": 68.25, "low": 60.0, "high": 70.0, "n": 20, "unit": "pairs"}
    values |= {"p": None, "difference": None, "limited": False, "post": None}
    names = {"method": "kv_embedding", "label": "kv_embedding", "settings": settings}
    task = {"task": "STS", "split": "test", "metric": "cosine_spearman"}
    return kvlens.evaluation.score.Score(**{**values, **names, **task, **fields})


def file_result(row, model, folder):
    """A result as mteb files it, of a row."""
    revision = model.revision.removeprefix("sha256:")[:40]
    place = Path(folder, "results", "kvlens__model", revision, "experiments", "hash_1")
    place.mkdir(parents=True)
    scores = {"test": [{"main_score": row.value / 100, "hf_subset": "default"}]}
    meta = {
        "revision": revision,
        "loader_kwargs": {"settings": row.settings, "versions": {"kvlens": kvlens.__version__}},
        "experiment_kwargs": {"method": row.method, "post": row.post, "hash": "1"},
    }
    place.joinpath("STS.json").write_text(json.dumps({"task_name": "STS", "scores": scores}))
    place.joinpath("model_meta.json").write_text(json.dumps(meta))
    items = {"test/default": np.zeros((2, 3))}
    seal = seal_of(place / "STS.json", items)
    save_file(items, place / "STS.items.safetensors", seal)
    return place


def test_scores_agree_with_layers_and_with_what_mteb_filed(here):
    layers = kvlens.LayerSet.load("run/layers.json")
    row = score(layers)
    table = kvlens.Scores(
        model=layers.model, max_length=256, scores=(row,), versions={}, command=""
    )
    table.save("run/scores.json")
    place = file_result(row, layers.model, "run")
    assert differing() == set()
    told = {(c.file, c.what) for c in kvlens.verify("run").checks}
    wanted = {("scores.json", "results"), ("scores.json", "layer set"), ("results", "same model")}
    assert wanted <= told

    edited = table.model_copy(update={"scores": (score(layers, value=70.0),)})
    edited.save("run/scores.json")
    assert differing() == {("scores.json", "results")}

    other = score(layers, settings={**row.settings, "layers": [0, 1]})
    table.model_copy(update={"scores": (other,)}).save("run/scores.json")
    assert ("scores.json", "layer set") in differing()

    table.save("run/scores.json")
    items = place / "STS.items.safetensors"
    flip(items, -1)
    assert differing() == {("results", "result")}
    save_file({"test/default": np.zeros((2, 3))}, items)
    assert differing() == set()
    assert verdicts(kvlens.verify("run"), "items") == {"cannot tell"}
    items.unlink()
    assert ("results", "result") in differing()


def test_a_page_names_what_has_changed_since(here):
    edit("run/sweep.json", seed=1)
    assert ("report.html", "sweep.json") in differing()
    Path("run/sweep.json").unlink()
    checks = kvlens.verify("run/report.html").checks
    assert [c.verdict for c in checks if c.what == "sweep.json"] == ["cannot tell"]
    page = Path("run/report.html")
    page.write_text(page.read_text().replace("<th>layers.json</th>", "<th>../../secret</th>"))
    checks = kvlens.verify("run/report.html").checks
    assert [c.verdict for c in checks if c.what == "../../secret"] == ["cannot tell"]


@pytest.fixture
def stopped(here):
    """What is left of an embedding that was stopped after two of its chunks."""

    def stop(done, total):
        if done > 40:
            raise KeyboardInterrupt

    encoder = kvlens.Encoder(kvlens.load("model"), layers="run/layers.json")
    with pytest.raises(KeyboardInterrupt):
        kvlens.embed_file(encoder, "texts.txt", "run/half.npy", chunk=20, progress=stop)
    return Path("run/half.npy.part")


def test_a_stopped_run_agrees_until_a_chunk_is_damaged(stopped):
    before = {path: path.read_bytes() for path in stopped.iterdir()}
    assert kvlens.verify(stopped).differing(strict=True) == ()
    assert differing() == set()
    told = {check.what: check for check in kvlens.verify(stopped).checks}
    assert told["chunks"].reason == "2"
    assert told["texts"].verdict == "agrees"
    assert {path: path.read_bytes() for path in stopped.iterdir()} == before
    chunk = min(stopped.glob("*.safetensors"))
    flip(chunk, -1)
    assert differing() == {(f"{stopped.name}", "chunk")}
    assert f"{chunk.name} is damaged: its hash is another" in str(kvlens.verify(stopped))
    (stopped / "run.json").write_text("{}")
    assert differing(stopped) == {(stopped.name, "file")}


def test_a_stopped_sweep_is_no_file_of_texts(stopped):
    path = stopped / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps({**run, "format": "kvlens.sweep", "routes": []}))
    verification = kvlens.verify(stopped)
    assert verification.differing() == ()
    assert verdicts(verification, "texts") == {"cannot tell"}
    assert verdicts(verification, "model") == {"agrees"}


def test_files_of_version_0_1_0():
    verification = kvlens.verify(DATA)
    assert len({check.file for check in verification.checks}) == 19
    # The trace there is not the profile's: it is of three texts.
    (difference,) = verification.differing()
    assert (difference.file, difference.what) == ("trace.safetensors", "same texts")
    read = {"vectors.npy", "vectors.safetensors", "vectors.parquet", "stopped.npy.part"}
    by_file = {c.file: c.verdict for c in verification.checks if c.what == "texts"}
    assert all(by_file[name] == "agrees" for name in read)
    assert verdicts(verification, "pairs") == {"agrees"}


@pytest.mark.parametrize(
    "name",
    sorted(p.name for p in DATA.iterdir() if p.suffix in (".safetensors", ".npy", ".parquet")),
)
def test_single_files_of_version_0_1_0(name):
    assert not kvlens.verify(DATA / name).differing()


@pytest.mark.parametrize("name", ["README.md", "expected.json", "texts.jsonl", "absent.json"])
def test_what_is_not_of_kvlens_is_refused(name):
    with pytest.raises(kvlens.InputError, match=name):
        kvlens.verify(DATA / name)


def test_a_folder_without_files_of_kvlens_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    shutil.copy(DATA / "layers.json", tmp_path / ".hidden")
    with pytest.raises(kvlens.InputError, match="has no file of kvlens"):
        kvlens.verify(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_of_any_kind_has_an_answer(seed, tmp_path):
    """Every file damaged in some way, one after the other, and all that is beside it is told."""
    folder = tmp_path / "old"
    shutil.copytree(DATA, folder)
    rng = Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _, content = damaged(path.read_bytes(), rng)
        path.unlink()
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        if rng.random() < 0.3 or path == files[-1]:
            verification = kvlens.verify(folder)
            assert all(line.isprintable() for line in str(verification).splitlines())
            json.dumps(verification.data)
    assert verification.differing()


def test_names_are_shown_escaped(tmp_path):
    folder = tmp_path / ESCAPES
    folder.mkdir()
    content = json.loads((DATA / "profile.json").read_text())
    content["model"]["name"] = content["texts"]["source"] = ESCAPES
    (folder / "profile.json").write_text(json.dumps(content))
    verification = kvlens.verify(folder)
    assert "\x1b" not in str(verification)
    assert "\\x1b[2J<script>" in str(verification)
    page = verification._repr_html_()
    assert "\x1b" not in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
