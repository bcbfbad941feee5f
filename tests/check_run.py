"""Check the folder that `kvlens profile` wrote: python tests/check_run.py RUN_DIR MODEL."""

import json
import math
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import matplotlib.image

from kvlens import IDProfile, LayerSet, StaticPrefix


def check_run(folder: Path, model: str) -> None:
    profile, layers = IDProfile.load(folder / "profile.json"), LayerSet.load(folder / "layers.json")
    assert profile.model.name == layers.model.name == model
    assert layers.profile == profile
    for estimator in ("twonn", "mle"):
        values, errors = profile.values(estimator), profile.stderrs(estimator)
        assert len(values) == profile.model.n_layers
        assert all(
            1 < v < 100 and 0 < e < v and math.isfinite(v)
            for v, e in zip(values, errors, strict=True)
        )
    assert layers.layers
    assert profile.version == layers.version == 2
    assert profile.sink is not None
    assert profile.draws is not None
    assert profile.drawn_values("twonn").shape[1] == len(profile.layers)
    if layers.rule != "explicit":
        assert layers.stability is not None
        assert layers.stability.taken
    assert set(layers.layers) <= set(range(profile.model.n_layers))
    assert StaticPrefix.load(folder / "prefix.safetensors").texts == profile.texts
    schema = json.loads(files("kvlens.layers").joinpath("layerset.schema.json").read_text())
    jsonschema.validate(json.loads((folder / "layers.json").read_text()), schema)
    picture = matplotlib.image.imread(folder / "layer_id.png")
    assert picture.shape[1] > 600
    assert picture[..., :3].std() > 0.05
    assert (folder / "layer_id.pdf").read_bytes().startswith(b"%PDF")
    assert "plotly" in (folder / "layer_id.html").read_text().lower()
    assert {path.name for path in folder.iterdir()} >= {
        "profile.json",
        "layers.json",
        "prefix.safetensors",
        "layer_id.png",
    }


if __name__ == "__main__":
    check_run(Path(sys.argv[1]), sys.argv[2])
    print(f"{sys.argv[1]}: every file is there, valid and readable")
