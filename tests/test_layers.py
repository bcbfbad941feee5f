from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlens.dimension.profile import IDEstimate, IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.layers.rules import RULES
from kvlens.layers.schema import schema
from kvlens.layers.selection import select
from kvlens.layers.shape import shape
from kvlens.models.info import ModelInfo
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase, runs
from kvlens.store.provenance import made_by
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import TextsInfo

GEMMA = [
    11.8,
    10.2,
    10.7,
    11.5,
    11.5,
    11.2,
    12.1,
    11.8,
    11.5,
    12.8,
    13.7,
    14.5,
    10.9,
    11.5,
    11.9,
    11.0,
    11.3,
    12.0,
]
SMOLLM2 = np.interp(np.arange(30), [0, 15, 29], [11.7, 18.5, 14.0])
U = 9.5 + 0.03 * (np.arange(30) - 11.0) ** 2
RISING = 9 + 0.3 * np.arange(30)


def make_profile(
    values, stderr=0.4, *, name="test-model", n_layers=None, layers=None, mle=None, warn=None, n=1000, dropped=0,
    prompt="kv-document", points="last",
) -> IDProfile:  # fmt: skip
    """A profile with the given TwoNN values (and MLE ones), one per layer."""
    layers = list(range(len(values)) if layers is None else layers)

    def estimates(numbers):
        errors = np.broadcast_to(stderr, len(layers))
        rows = zip(layers, numbers, errors, strict=True)
        return tuple(
            IDEstimate(layer=i, value=float(v), stderr=float(e), n=n - dropped, dropped=dropped,
                       warnings=(warn[i],) if warn and i in warn else ())
            for i, v, e in rows
        )  # fmt: skip

    model = ModelInfo(
        name=name, revision="sha256:0", architecture="LlamaForCausalLM", n_layers=n_layers or len(values), n_heads=4,
        n_kv_heads=2, d_head=8, d_model=32, vocab_size=100, max_positions=64, dtype="float32", device="cpu",
        tokenizer="sha256:1",
    )  # fmt: skip
    return IDProfile(
        format="kvlens.id-profile", version=1, model=model, states="hidden", points=points, prompt=PROMPTS[prompt],
        texts=TextsInfo(source="made up", n=n, sha256="0" * 64),
        estimates={"twonn": estimates(values)} | ({"mle": estimates(mle)} if mle is not None else {}),
        scales=(), versions={"kvlens": "0"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "stderr", "name", "minima", "edges"),
    [
        (U, 0.4, "U", [11], []),
        (U, 5.0, "flat", [], []),
        (RISING, 0.4, "rising", [0], [0]),
        (RISING[::-1], 0.4, "falling", [29], [29]),
        (SMOLLM2, 0.5, "peak", [0, 29], [0, 29]),
        (GEMMA, 0.5, "several minima", [1, 12], [12]),
        (GEMMA, 1.2, "peak", [1, 12], [1, 12]),
        (GEMMA, 1.3, "rising", [1], [1]),
        ([12.0] * 30, 0.4, "flat", [], []),
        ([9, 12, 9, 12], 0.1, "several minima", [0, 2], [0]),
        ([12, 9, 12, 8, 12], 0.1, "several minima", [1, 3], []),
        ([9, 12, 10, 13, 9], 0.1, "several minima", [0, 2, 4], [0, 4]),
        ([5.0], 0.1, "flat", [], []),
        ([5.0, 6.0], 0.1, "rising", [0], [0]),
        # Only the dip's own error hides it.
        ([9, 12, 9.5, 12], [0.1, 0.1, 3, 0.1], "rising", [0], [0]),
    ],
)
def test_shape_of_known_profiles(values, stderr, name, minima, edges):
    found = shape(values, np.broadcast_to(stderr, len(values)), z=2.0)
    assert (found.name, list(found.minima), list(found.edge_minima)) == (name, minima, edges)


def test_shape_names_the_layers_given():
    assert shape([12, 9, 12], [0.1] * 3, layers=[0, 10, 20]).minima == (10,)


profiles_of_errors = st.lists(
    st.tuples(st.integers(0, 60) | st.integers(0, 6), st.integers(1, 12)),
    min_size=1,
    max_size=24,
    unique=True,
)  # equal values occur, with different errors


@given(profiles_of_errors, st.integers(-40, 40), st.integers(-6, 6))
def test_shape_is_invariant_to_shift_and_scale(pairs, shift, power):
    v, e = np.array(pairs, dtype=float).T
    assert shape(v, e) == shape((v + shift) * 2.0**power, e * 2.0**power)


@given(profiles_of_errors)
def test_shape_of_the_mirrored_profile_is_mirrored(pairs):
    v, e = np.array(pairs, dtype=float).T
    there, back = shape(v, e), shape(v[::-1], e[::-1])
    assert back.name == {"rising": "falling", "falling": "rising"}.get(there.name, there.name)
    assert back.minima == tuple(len(v) - 1 - i for i in reversed(there.minima))
    assert back.edge_minima == tuple(len(v) - 1 - i for i in reversed(there.edge_minima))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(1.45, 4))
def test_noise_below_the_errors_leaves_a_flat_profile_flat(noise, z):
    # |difference| <= 2 se < z sqrt(2) se
    assert shape(12 + 0.4 * np.array(noise), [0.4] * len(noise), z=z).name == "flat"


def persistent_minima(v: np.ndarray, threshold: float) -> list[int]:
    """Minima that live longer than threshold when the values are flooded from below: union of neighbours."""
    basin: dict[int, int] = {}
    dead = set()
    for i in np.argsort(v):
        near = sorted({basin[j] for j in (i - 1, i + 1) if j in basin}, key=lambda low: v[low])
        basin[i] = near[0] if near else i
        if len(near) == 2:
            dead |= {near[1]} if v[i] - v[near[1]] <= threshold else set()
            basin = {j: near[0] if low == near[1] else low for j, low in basin.items()}
    return sorted(
        int(i)
        for i in set(basin) - dead
        if all(v[j] > v[i] for j in (i - 1, i + 1) if 0 <= j < len(v))
    )


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30, unique=True), st.integers(1, 30))
def test_with_equal_errors_minima_are_those_of_persistence(values, threshold):
    v = np.array(values, dtype=float)
    found = shape(v, np.full(len(v), (threshold + 0.5) / np.sqrt(8)), z=2.0)
    expected = persistent_minima(v, threshold + 0.5)
    assert list(found.minima) == (expected if found.name != "flat" else [])
    if found.name == "flat":
        assert v.max() - v.min() <= threshold + 0.5


@pytest.mark.parametrize(
    "bad", [([], []), ([1, 2], [1]), ([1, np.nan], [1, 1]), ([1, 2], [1, -1]), ([[1]], [[1]])]
)
def test_shape_refuses(bad):
    with pytest.raises(InputError):
        shape(*bad)
    for z in (0, -1, np.nan, np.inf):
        with pytest.raises(InputError):
            shape([1, 2], [1, 1], z=z)


def test_u_takes_the_minimum_and_the_window_after_it():
    chosen = select(make_profile(U), z=2.0)
    assert (chosen.layers, chosen.shape.name, chosen.branch) == (
        (11, 12, 13, 14),
        "U",
        "U: window from the minimum",
    )
    assert "minimum at layer 11 (ID 9.5, standard error 0.4)" in chosen.reason
    assert "floor(0.1 x 30) = 3" in chosen.reason
    assert chosen.warnings == (
        "the ID at layer 11 is not clearly below that at layers 5-10, 12-17",
    )
    assert select(make_profile(U, 1e-3)).warnings == ()


def test_u_is_clipped_at_the_last_layer_and_says_so():
    chosen = select(make_profile(9 + np.abs(np.arange(30) - 28.0), 0.1), window=0.2)
    assert chosen.layers == (28, 29)
    assert any("clipped at the last layer, 29" in text for text in chosen.warnings)
    assert any("includes the model's last layer" in text for text in chosen.warnings)


def test_several_minima_take_the_lowest_past_the_first_fifth():
    chosen = select(
        make_profile(GEMMA, 0.5), z=2.0
    )  # 18 layers: 1 + floor(1.8), from layer ceil(3.6) on
    assert (chosen.layers, chosen.branch) == ((12, 15), "lowest past skip_early")
    assert "several minima, minima at layers 1, 12" in chosen.reason
    assert (
        "the profile is lowest at layer 1 (ID 10.2, standard error 0.5), which is not chosen"
        in chosen.warnings
    )
    assert any(
        "not clearly below that at layers 4-8, 13-14, 16-17" in text for text in chosen.warnings
    )
    assert not any("does not cover" in text for text in chosen.warnings)
    assert select(make_profile(GEMMA, 0.5), skip_early=0).layers == (1, 2)


@pytest.mark.parametrize(
    ("values", "name", "layers", "edge", "others"),
    [
        (
            SMOLLM2,
            "peak",
            (6, 27, 28, 29),
            "layer 0",
            ["last layer", "layer 6 is where skip_early ends"],
        ),
        (RISING, "rising", (6, 7, 8, 9), "layer 0", ["layer 6 is where skip_early ends"]),
        (RISING[::-1], "falling", (26, 27, 28, 29), "layer 29", ["last layer"]),
        ([12.0] * 30, "flat", (6, 7, 8, 9), "layer 0", ["not clearly below"]),
    ],
)
def test_shapes_that_the_paper_does_not_cover_warn(values, name, layers, edge, others):
    chosen = select(make_profile(values, 0.4))
    assert (chosen.layers, chosen.shape.name) == (layers, name)
    said = " | ".join(chosen.warnings)
    assert f"does not cover this shape ({name})" in said
    assert f"the profile is lowest at {edge} " in said
    assert ", an edge" in said
    assert all(other in said for other in others)


@given(
    st.lists(st.integers(5, 25), min_size=4, max_size=40, unique=False),
    st.floats(0, 0.5),
    st.floats(0, 0.9),
)
def test_ranking_rules_match_brute_force(values, window, skip):
    profile = make_profile(values)
    n, count = len(values), 1 + int(np.floor(np.round(window * len(values), 9)))
    late = [i for i in range(n) if i >= np.round(skip * n, 9)]
    ranked = sorted(late, key=lambda i: (values[i], i))
    if not late:
        with pytest.raises(InputError):
            select(profile, "lowest-k", window, skip)
        return
    assert select(profile, "lowest-k", window, skip).layers == tuple(sorted(ranked[:count]))
    around = select(profile, "window-around-minimum", window, skip).layers
    assert around == tuple(range(around[0], around[0] + count))
    assert ranked[0] in around
    assert around[-1] < n
    before, after = ranked[0] - around[0], around[-1] - ranked[0]
    assert 0 <= after - before <= 1 or around[0] == 0 or around[-1] == n - 1
    assert all(0 <= i < n for i in select(profile, "paper", window, skip).layers)


def test_fractions_of_the_depth_are_not_bitten_by_binary():
    profile = make_profile(np.arange(100) % 100 + 1.0)
    assert 0.29 * 100 < 29
    assert 0.07 * 100 > 7
    chosen = select(profile, "lowest-k", window=0.29, skip_early=0.07)
    assert chosen.layers == tuple(range(7, 37))


def test_explicit_and_what_it_refuses():
    profile = make_profile(U)
    assert select(profile, "explicit", layers=[3, 29]).layers == (3, 29)
    assert select(profile, "explicit", layers=[3, 29]).warnings == ()
    assert "no layers of 30" in str(select(profile, "explicit", layers=[]))
    for layers, said in (
        (None, "needs `layers`"),
        ([30], "outside the model, whose layers are 0 to 29"),
        ([-1], "layers.0"),
        ([4, 3], "ascend without repetition"),
        ([3, 3], "ascend without repetition"),
        ([1.5], "layers.0"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            select(profile, "explicit", layers=layers)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"rule": "best"}, "unknown rule 'best': choose one of paper, lowest-k"),
        ({"estimator": "mle"}, "no estimator 'mle', only twonn"),
        ({"window": 1.0}, "window"),
        ({"window": -0.1}, "window"),
        ({"window": float("nan")}, "window"),
        ({"skip_early": 1.0}, "skip_early"),
        ({"z": 0}, "z"),
        ({"layers": [1]}, '`layers` go with rule "explicit"'),
        ({"bias": [1.0, 2.0]}, "2 biases for 4 layers"),
        ({"bias": float("inf")}, "bias"),
        ({"position": "start"}, "position"),
        ({"pooling": "max"}, "pooling"),
    ],
)
def test_bad_input_is_one_line(given_, said):
    with pytest.raises(InputError, match=said) as caught:
        select(make_profile(U), **given_)
    assert "\n" not in str(caught.value)


def test_a_profile_of_some_layers():
    values = [12, 11, 9, 11, 12, 13]
    chosen = select(make_profile(values, 0.1, layers=range(0, 30, 5), n_layers=30))
    assert chosen.layers == (10, 11, 12, 13)
    assert "only 6 of the model's 30 layers were profiled" in chosen.warnings
    few = select(
        make_profile(values, 0.1, layers=range(0, 30, 5), n_layers=30), "lowest-k", window=0.3
    )
    assert few.layers == (10, 15, 20, 25)
    assert any("only 4 profiled layers lie past the first 20 %" in text for text in few.warnings)
    with pytest.raises(InputError, match="lower `skip_early`"):
        select(make_profile(values, layers=range(6), n_layers=30), "lowest-k")


def test_doubtful_estimates_and_other_prompts_are_named():
    doubtful = select(
        make_profile(U, warn={12: "no plateau: 3 to 9", 13: "n too small: x", 3: "unrelated"})
    )
    assert "the ID at layers 12-13 is in doubt (no plateau, n too small)" in doubtful.warnings
    raw = select(make_profile(U, prompt="raw"))
    assert "profiled with prompt raw, but documents will use kv-document-inner" in raw.warnings
    quoted = select(make_profile(U, prompt="kv-document-quoted"))
    assert (quoted.prompts.query.name, quoted.prompts.document.name) == (
        "kv-query-quoted",
        "kv-document-quoted",
    )
    assert not any("prompt" in text for text in quoted.warnings)


def test_another_estimator_decides_when_asked():
    profile = make_profile(U, 0.01, mle=U[::-1])
    assert select(profile, estimator="mle").layers == (18, 19, 20, 21)


def test_str_is_for_the_terminal():
    shown = str(select(make_profile(SMOLLM2, name="smol")))
    assert shown.splitlines()[0] == "layers 6, 27-29 of 30, smol"
    assert "peak (minima: layers 0, 29)" in shown
    assert shown.count("warning  ") == len(select(make_profile(SMOLLM2)).warnings)


@given(st.sets(st.integers(0, 40)))
def test_runs_cover_the_layers(layers):
    assert [i for first, last in runs(sorted(layers)) for i in range(first, last + 1)] == sorted(
        layers
    )
    assert phrase([7, 8, 9, 12]) == "layers 7-9, 12"


@pytest.mark.parametrize("rule", RULES)
def test_file_round_trip_and_schema(rule, tmp_path):
    layers = [3, 7] if rule == "explicit" else None
    profile = make_profile(
        U / 3, mle=U, warn={2: "ünsure"}
    )  # thirds: decimals that need every digit
    profile = profile.model_copy(update={"skipped": {1: "all points are copies"}})
    with made_by("kvlens profile x"):
        saved = select(profile, rule, layers=layers, position="origin", pooling="mean")
    saved = saved.model_copy(update={"bias": tuple(0.1 * i for i in range(len(saved.layers)))})
    saved.save(tmp_path / "layers.json")
    assert LayerSet.load(tmp_path / "layers.json") == saved
    content = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("kvlens.layer-set", 1)
    assert content["profile"]["texts"] == {"source": "made up", "n": 1000, "sha256": "0" * 64}
    published = json.loads(schema())
    validator = jsonschema.Draft202012Validator(published)
    validator.check_schema(published)
    validator.validate(content)
    for key, value in (("layers", [3, 3]), ("position", "x"), ("version", 2), ("bias", "1")):
        assert not validator.is_valid(content | {key: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "kvlens.id-profile"}, "is not a layer set"),
        ({"version": 2}, "version 2, this kvlens reads 1: run"),
        ({"version": "x"}, "version"),
        ({"layers": [3, 99]}, "layer 99 is outside the model"),
        ({"layers": [4, 3]}, "ascend"),
        ({"layers": "all"}, "layers"),
        ({"layers": ["3"]}, "layers.0"),
        ({"bias": "1"}, "bias"),
        ({"bias": [1.0]}, "1 biases for 4 layers"),
        ({"position": "left"}, "position"),
        ({"surprise": 1}, "surprise"),
        ({"prompts": {"query": {"name": "q"}}}, "prompts.document"),
    ],
)
def test_load_refuses_what_is_not_valid(change, said, tmp_path):
    file = tmp_path / "layers.json"
    content = json.loads(select(make_profile(U)).model_dump_json())
    file.write_text(json.dumps(content | change), encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
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
