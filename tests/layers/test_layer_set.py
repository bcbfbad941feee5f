"""Layer set: its file, its schema, and what it refuses."""

import json

import jsonschema
import pytest
from profile_cases import SMOLLM2, U, make_profile, noisy

from kvlens.layers.layer_set import LayerSet
from kvlens.layers.rules import RULES
from kvlens.layers.schema import schema
from kvlens.layers.selection import select
from kvlens.store.errors import InputError
from kvlens.store.provenance import made_by


def test_str_is_for_the_terminal():
    shown = str(select(make_profile(SMOLLM2, name="smol")))
    assert shown.splitlines()[0] == "layers 6, 27-29 of 30, smol"
    assert "peak (minima: layers 0, 29)" in shown
    assert shown.count("warning  ") == len(select(make_profile(SMOLLM2)).warnings)


@pytest.mark.parametrize("rule", RULES)
def test_file_round_trip_and_schema(rule, tmp_path):
    layers = [3, 7] if rule == "explicit" else None
    # Thirds: decimals that need every digit.
    profile = make_profile(U / 3, mle=U, warn={2: "ünsure"}, sink=7, drawn=noisy(U / 3))
    profile = profile.model_copy(update={"skipped": {1: "all points are copies"}})
    with made_by("kvlens profile x"):
        saved = select(profile, rule, layers=layers, position="origin", pooling="mean", readout=-2)
    saved = saved.model_copy(update={"bias": tuple(0.1 * i for i in range(len(saved.layers)))})
    saved.save(tmp_path / "layers.json")
    assert LayerSet.load(tmp_path / "layers.json") == saved
    content = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("kvlens.layer-set", 2)
    assert content["profile"]["texts"] == {"source": "made up", "n": 1000, "sha256": "0" * 64}
    published = json.loads(schema())
    validator = jsonschema.Draft202012Validator(published)
    validator.check_schema(published)
    validator.validate(content)
    for key, value in (("layers", [3, 3]), ("position", "x"), ("version", 3), ("bias", "1")):
        assert not validator.is_valid(content | {key: value})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "kvlens.id-profile"}, "is not a layer set"),
        ({"version": 3}, "version 3, this kvlens reads 1 and 2: run"),
        ({"version": "x"}, "version"),
        ({"layers": [3, 99]}, "layer 99 is outside the model"),
        ({"layers": [4, 3]}, "ascend"),
        ({"layers": "all"}, "layers"),
        ({"layers": ["3"]}, "layers.0"),
        ({"bias": "1"}, "bias"),
        ({"bias": [1.0]}, "1 biases for 4 layers"),
        ({"bias": 1e308}, "the bias 1e[+]308 is above 10000 in size"),
        ({"bias": [0, 0, 0, -10_001]}, "the bias -10001 is above 10000 in size"),
        ({"bias": 10**400}, "bias"),
        ({"layers": list(range(3_000))}, "3,000 layers are more than 2,000"),
        ({"shape": {"name": "U", "minima": [30], "edge_minima": []}}, "layer 30 is outside"),
        ({"position": "left"}, "position"),
        ({"readout": 30}, "`readout` is 30; the blocks are 0 to 29"),
        ({"readout": 30.0}, "`readout` is 30.0"),
        ({"readout": True}, "readout"),
        ({"readout": 2, "version": 1}, "version 1 has neither"),
        ({"surprise": 1}, "surprise"),
        ({"prompts": {"query": {"name": "q"}}}, "prompts.document"),
    ],
)
def test_load_refuses_what_is_not_valid(change, problem, tmp_path):
    file = tmp_path / "layers.json"
    content = json.loads(select(make_profile(U)).model_dump_json())
    file.write_text(json.dumps(content | change), encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        LayerSet.load(file)
    assert "layers.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_load_refuses_what_is_no_layer_set(content, tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json is not a layer set"):
        LayerSet.load(file)


def test_load_and_save_where_nothing_can_be(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        LayerSet.load(tmp_path / "absent.json")
    with pytest.raises(InputError, match="cannot read"):
        LayerSet.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        select(make_profile(U)).save(tmp_path / "file" / "layers.json")


@pytest.mark.parametrize(("n_layers", "problem"), [(10**6, "to 2000"), (0, "0 is not"), (-1, "-1")])
def test_a_model_of_absurdly_many_layers_is_refused(n_layers, problem, tmp_path):
    file = tmp_path / "layers.json"
    content = json.loads(select(make_profile(U)).model_dump_json())
    content["model"]["n_layers"] = n_layers
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=rf"model.n_layers: .*{problem}"):
        LayerSet.load(file)


def test_a_prompt_longer_than_any_context_is_refused(tmp_path):
    file = tmp_path / "layers.json"
    content = json.loads(select(make_profile(U)).model_dump_json())
    content["prompts"]["query"]["prefix"] = "x" * 10_000_000
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="10,000,000 characters are more than 100,000"):
        LayerSet.load(file)
