"""The layer-set file's JSON schema: published as it is, and structurally that of version 0.1.0."""

import json
from pathlib import Path
from typing import Any

from test_old_files import DATA

import kvlens.layers.schema
from kvlens.layers.schema import schema


def without_descriptions(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: without_descriptions(value)
            for key, value in schema.items()
            if key != "description"
        }
    if isinstance(schema, list):
        return [without_descriptions(value) for value in schema]
    return schema


# Definition -> the fields that came later; the definitions that came with them.
LATER = {
    "Prompt": ("chat", "prepare"),
    "ModelInfo": ("key_layers", "reroutable"),
    "IDProfile": ("sink", "draws", "decimation"),
}
CAME_ALONG = ("Chat", "Control", "Draws", "Sink", "Stability")
VERSION_2 = ("control", "stability", "readout", "final_norm", "origin")


def without_later(schema: Any) -> Any:
    """Without what no file needs: each is optional."""
    definitions = schema["$defs"]
    for name, fields in LATER.items():
        for field in fields:
            assert field not in definitions[name]["required"]
            del definitions[name]["properties"][field]
    for name in CAME_ALONG:
        del definitions[name]
    for name in VERSION_2:
        assert name not in schema["required"]
        del schema["properties"][name]
    return schema


def as_version_1(schema: Any) -> Any:
    """The same, as if there was no version but the first."""
    text = json.dumps(schema)
    text = text.replace('"urn:kvlens:layer-set:2"', '"urn:kvlens:layer-set:1"')
    return json.loads(text.replace('"default": 2, "enum": [1, 2]', '"const": 1, "default": 1'))


def structure(schema: Any) -> str:
    """As text, so that the order of names counts."""
    return json.dumps(without_descriptions(schema), indent=2)


def test_the_structure_is_that_of_version_0_1_0():
    old = (DATA / "layerset.schema.json").read_text(encoding="utf-8")
    assert structure(as_version_1(without_later(json.loads(schema())))) == structure(
        json.loads(old)
    )


def test_published_schema_is_current():
    folder = Path(kvlens.layers.schema.__file__).parent
    published = (folder / "layerset.schema.json").read_text(encoding="utf-8")
    assert published == schema(), (
        "write kvlens.layers.schema.schema() to kvlens/layers/layerset.schema.json"
    )
