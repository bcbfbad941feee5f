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


def structure(text: str) -> str:
    """As text, so that the order of names counts."""
    return json.dumps(without_descriptions(json.loads(text)), indent=2)


def test_the_structure_is_that_of_version_0_1_0():
    old = (DATA / "layerset.schema.json").read_text(encoding="utf-8")
    assert structure(schema()) == structure(old)


def test_published_schema_is_current():
    folder = Path(kvlens.layers.schema.__file__).parent
    published = (folder / "layerset.schema.json").read_text(encoding="utf-8")
    assert published == schema(), (
        "write kvlens.layers.schema.schema() to kvlens/layers/layerset.schema.json"
    )
