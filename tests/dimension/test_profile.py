"""ID profile: warnings in groups; other files are refused in one line."""

import json

import numpy as np
import pytest
from manifolds import trace_of_balls

from kvlens.dimension.estimation import estimate
from kvlens.dimension.profile import IDEstimate, IDProfile, ScaleProfile
from kvlens.store.errors import InputError


def test_warnings_are_grouped():
    base = estimate(trace_of_balls())
    few = "n too small: from 120 points"
    copies = "duplicates: 9 of 129 points"
    rows = {
        "twonn": [(copies,), (), (copies,)],
        "mle": [(few, copies), (few + "!",), (few, copies)],
    }
    estimates = {
        name: tuple(
            IDEstimate(layer=i, value=3, stderr=1, n=120, dropped=0, warnings=w)
            for i, w in enumerate(row)
        )
        for name, row in rows.items()
    }
    assert base.model_copy(update={"estimates": estimates}).warnings == [
        f"twonn, mle at layers 0, 2: {copies}",
        f"mle at layers 0-2: {few} (at layer 0)",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "has ID profile version 3, this kvlens reads 1 and 2: profile the model"),
        ({"version": None}, "has ID profile version None"),
        ({"format": "kvlens.layer-set"}, 'lacks "format": "kvlens.id-profile"'),
        ({"states": 3}, "not a valid ID profile: states"),
        ({"estimates": {}}, "not a valid ID profile: estimates"),
        ({"surprise": 1}, "not a valid ID profile: surprise"),
        ({"scales": [{"layer": 0}]}, "not a valid ID profile: scales.0.neighbours"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "id.json"
    estimate(trace_of_balls()).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError) as refused:
        IDProfile.load(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read the ID profile"):
        IDProfile.load(tmp_path / "none.json")
    for content in (b"{", b"\xff\xfe\x00", b"[" * 100_000):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match="it is not JSON"):
            IDProfile.load(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="lacks"):
        IDProfile.load(tmp_path / "list.json")


def test_estimators_cover_the_same_ascending_layers():
    profile = estimate(trace_of_balls())
    content = profile.model_dump()
    content["estimates"]["mle"] = content["estimates"]["mle"][:2]
    with pytest.raises(ValueError, match="cover the same layers"):
        IDProfile.model_validate(content)
    content["estimates"] = {"twonn": content["estimates"]["twonn"][::-1]}
    with pytest.raises(ValueError, match="ascend"):
        IDProfile.model_validate(content)
    with pytest.raises(ValueError, match="finite"):
        ScaleProfile(layer=0, neighbours=(2,), values=(np.nan,), stderrs=(1.0,))
