"""Schema: the JSON schema of the layer-set file."""

from __future__ import annotations

import json

from kvlens.layers.layer_set import LayerSet


def schema() -> str:
    """The JSON schema of the layer-set file, as layerset.schema.json publishes it."""
    return json.dumps(LayerSet.model_json_schema(), indent=2) + "\n"
