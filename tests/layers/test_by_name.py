"""Layer sets by name: folders with a card, put at a hub that is a real server, and fetched."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from hub_server import serving
from profile_cases import U, make_profile, noisy

import kvlens
from kvlens.layers.layer_set import LayerSet
from kvlens.layers.selection import select
from kvlens.store.errors import InputError
from kvlens.store.hub_folder import HubName
from kvlens.store.notices import Notice
from kvlens.store.provenance import made_by
from kvlens.texts.prompts import from_template

NAME = "org/layers"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub as HF_ENDPOINT would name it, a cache of its own, and a user who is logged in."""
    from huggingface_hub import constants

    with serving() as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(
            constants.ENDPOINT, server.endpoint
        )
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "made-up")
        yield server


@pytest.fixture(scope="module")
def layer_set():
    profile = make_profile(U, warn={2: "unsure"}, drawn=noisy(U))
    with made_by("kvlens profile tiny"):
        return select(profile, document=from_template("<|user|> {text} `in` one | word:"))


def test_pushed_and_fetched(hub, layer_set, tmp_path):
    """Pushed, named by its commit, moved on, pinned: the very same by every name."""
    pinned = layer_set.push_to_hub(NAME)
    commit = hub.repos[NAME].refs["main"]
    assert pinned == f"hf://{NAME}@{commit}"
    fetched = LayerSet.from_pretrained(NAME)
    assert fetched.origin == pinned
    assert fetched.model_copy(update={"origin": None}) == layer_set
    assert pinned in str(fetched)
    moved_on = layer_set.model_copy(update={"bias": 2.0})
    moved_on.push_to_hub(NAME)
    assert LayerSet.from_pretrained(f"hf://{NAME}").bias == 2.0
    for name, revision in ((pinned, None), (NAME, commit)):
        assert LayerSet.from_pretrained(name, revision) == fetched
    fetched.save(tmp_path / "layers.json")
    assert LayerSet.load(tmp_path / "layers.json") == fetched
    assert set(hub.repos[NAME].commits[commit]) >= {"README.md", "profile.json", "profile.png"}


def test_what_is_fetched_is_asked_for_once_and_is_there_without_the_hub(hub, layer_set):
    pinned = layer_set.push_to_hub(NAME)
    fetched = LayerSet.from_pretrained(pinned)
    asked = [request for request in hub.requests if "/resolve/" in request]
    assert {request.rpartition("/")[2] for request in asked} == {"layers.json", "profile.json"}
    hub.requests.clear()
    assert LayerSet.from_pretrained(pinned) == fetched
    assert not hub.requests
    assert LayerSet.from_pretrained(NAME) == fetched
    assert hub.requests == [f"GET /api/models/{NAME}"]


def test_nobody_waits_for_the_weights_of_something_else(hub):
    hub.add("org/model", config__json=b"{}", model__safetensors=b"x" * 1000)
    with pytest.raises(InputError, match=r"has no layers\.json at the hub: it is no folder of kv"):
        LayerSet.from_pretrained("org/model")
    assert not [request for request in hub.requests if "model.safetensors" in request]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("org/nothing", "the hub has no org/nothing, or shows it only to those who log in"),
        (f"hf://{NAME}@v9", f"{NAME} has no revision 'v9' at the hub"),
        ("hf://alone", "'hf://alone' is no name at the hub: give hf://ORG/NAME"),
        ("hf://../../etc", "is no name at the hub"),
        ("hf://a/b/c", "is no name at the hub"),
        (f"hf://{NAME}@", "is no name at the hub"),
    ],
)
def test_what_is_not_there_is_one_line(hub, layer_set, name, problem):
    hub.add(NAME, layers__json=layer_set.model_dump_json().encode())
    with pytest.raises(InputError, match=problem) as caught:
        LayerSet.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_without_network_and_without_a_cache(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"{NAME} is not in the local hub cache and the hub ca"):
        LayerSet.from_pretrained(NAME)


def test_a_damaged_file_of_the_hub_is_refused(hub):
    hub.add(NAME, layers__json=b'{"format": "kvlens.layer-set", "version": 9}')
    with pytest.raises(InputError, match="has layer set version 9, this kvlens reads 1 and 2"):
        LayerSet.from_pretrained(NAME)


def test_a_local_folder_and_its_card(layer_set, tmp_path):
    written = layer_set.save_pretrained(tmp_path / "set")
    assert LayerSet.from_pretrained(tmp_path / "set") == layer_set
    assert LayerSet.from_pretrained(tmp_path / "set" / "layers.json") == layer_set
    assert kvlens.open(tmp_path / "set" / "profile.json") == layer_set.profile
    assert {path.name for path in written} == {path.name for path in (tmp_path / "set").iterdir()}
    with pytest.raises(InputError, match="is on this machine: leave out `revision`"):
        LayerSet.from_pretrained(tmp_path / "set", "main")
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "kvlens"
    assert layer_set.reason.split(",")[0] in body
    assert all(warning.split(" (")[0] in body for warning in layer_set.warnings)
    assert layer_set.stability_words in body
    assert "* document: `` <|user|> {text} `in` one | word: ``" in body
    assert "Made by `kvlens profile tiny`." in body
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert {row.count("|") - row.count("\\|") for row in rows} == {3}


def test_words_of_a_layer_set_are_no_markup(layer_set, tmp_path):
    model = layer_set.model.model_copy(update={"name": "a|<b>\n# c](x)"})
    profile = layer_set.profile.model_copy(update={"model": model})
    evil = layer_set.model_copy(
        update={"model": model, "profile": profile, "reason": "{{ 7 * 7 }} <script>"}
    )
    evil.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "<script>" not in card
    assert r"{{ 7 \* 7 }}" in card
    assert "\n# c" not in card
    code = card.split("```python\n")[1].split("```")[0]
    assert f"kvlens.load({json.dumps(model.name)})" in code


def test_a_card_names_a_model_of_the_hub_alone(layer_set, tmp_path):
    model = layer_set.model.model_copy(update={"name": "org/model", "revision": "a" * 40})
    profile = layer_set.profile.model_copy(update={"model": model})
    layer_set.model_copy(update={"model": model, "profile": profile}).save_pretrained(tmp_path)
    _, head, _ = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == "org/model"


def test_an_encoder_by_name(hub, zoo, tmp_path):
    """It embeds as with the layer set itself; what was fitted goes along, and nothing is added."""
    lm = zoo("llama")
    here = tmp_path / "run"
    chosen = select_for(lm)
    chosen.save(here / "layers.json")
    texts = [f"text {i}" for i in range(8)]
    own = kvlens.Encoder(lm, layers=here / "layers.json")
    raw = own.encode(texts)
    own.fit_post("center", texts)
    (post,) = here.glob("post-*.safetensors")
    pinned = chosen.push_to_hub(NAME, files=[post])
    with pytest.warns(Notice, match="is now commit .*: put it behind an @ to keep it so"):
        by_name = kvlens.Encoder(lm, layers=f"hf://{NAME}", post="center")
    np.testing.assert_array_equal(by_name.encode(texts), own.encode(texts))
    other = kvlens.Encoder(lm, layers=pinned)
    np.testing.assert_array_equal(other.encode(texts), raw)
    before = sorted(path.name for path in other.folder.iterdir())
    other.fit_post("zscore", texts)
    assert sorted(path.name for path in other.folder.iterdir()) == before
    with kvlens.reroute(lm, pinned) as rerouting:
        assert rerouting.route.layers == chosen.layers


def select_for(lm):
    texts = [f"the number {i} is {i * i}" for i in range(60)]
    profile = kvlens.estimate(kvlens.record(lm, texts, keep=("hidden",)), estimators=("twonn",))
    return select(profile, "explicit", layers=[1, 2])


def test_only_what_belongs_to_a_layer_set_goes_along(layer_set, tmp_path):
    (tmp_path / "post-evil.safetensors").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("notes.txt", "post-evil.safetensors"):
        with pytest.raises(InputError, match=name):
            layer_set.save_pretrained(tmp_path / "set", files=[tmp_path / name])
    assert not (tmp_path / "set").exists()


def test_names():
    assert str(HubName.parse("a/b")) == "hf://a/b"
    assert HubName.parse("hf://a/b@refs/pr/1").revision == "refs/pr/1"
    assert HubName.parse("a/b", "f" * 40).is_pinned
    with pytest.raises(InputError, match="names a revision: leave out `revision`"):
        HubName.parse("a/b@c", "d")


@pytest.mark.slow
def test_the_terminal_takes_a_name(hub, zoo, tmp_path):
    """In a process of its own, to which HF_ENDPOINT says where the hub is."""
    lm = zoo("llama")
    lm.hf.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    lm = kvlens.load(tmp_path / "model")
    select_for(lm).push_to_hub(NAME)
    (tmp_path / "texts.txt").write_text("one\ntwo")
    line = f"embed model -i texts.txt --layers hf://{NAME} -o v.safetensors"
    done = subprocess.run(
        [sys.executable, "-m", "kvlens.cli", *line.split()],
        cwd=tmp_path,
        env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
        | {"HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    commit = hub.repos[NAME].refs["main"]
    assert f"hf://{NAME} is now commit {commit}" in done.stderr
    vectors = kvlens.open(tmp_path / "v.safetensors")
    expected = kvlens.Encoder(lm, layers=(1, 2)).encode(["one", "two"])
    np.testing.assert_allclose(vectors.vectors, expected, atol=1e-5)
