"""What figures need of a run folder, made small."""

import numpy as np
import pytest
from collect import collect
from figure_data import HOME, made_up_scores, made_up_sweep

import kvlens
from kvlens.analysis.lens import KVLens, kv_lens
from kvlens.evaluation.scores import Scores
from kvlens.reporting.figures.saved import KINDS
from kvlens.store.provenance import current_command, made_by
from kvlens.texts.pairs import read_pairs


@pytest.fixture(scope="module")
def results(zoo, pairs_file):
    """Some kinds of results, of one model, in the order of `KINDS`."""
    lm = zoo("llama")
    lines = [f"text {i} {'la ' * (i % 5)}" for i in range(60)]
    trace = kvlens.record(lm, lines)
    with made_by("kvlens profile x -o /tmp/secret --n 30"):
        layer_set = kvlens.select(kvlens.estimate(trace))
    with made_by("kvlens sweep x --what readout -o /tmp/secret/r.json --overwrite"):
        swept = kvlens.readout_sweep(lm, read_pairs(pairs_file, 12))
    with made_by("kvlens attend x --effects -o /tmp/secret"):
        effects = kvlens.effects(lm, lines[:3], (1,), command=current_command())
    return {
        "layers": layer_set,
        "shift-text": kvlens.attention_shift(lm, lines[:20], (1, 2)),
        "patterns": kvlens.attention_patterns(lm, "a cat", (1, 2)),
        "lens": kv_lens(trace),
        "scores": made_up_scores(layer_set, 0),
        "sweep": made_up_sweep(layer_set),
        "readout": swept,
        "effects": effects,
    }


@pytest.fixture(scope="module")
def collected(results, tmp_path_factory):
    """The same, after `collect`."""
    folder = tmp_path_factory.mktemp("collect")
    for kind, result in results.items():
        path = folder / "run" / KINDS[kind].file
        path.parent.mkdir(parents=True, exist_ok=True)
        result.save(path)
    paths = collect(folder / "run", folder / "data")
    assert all(path.stem.endswith("_tiny-llama") for path in paths)
    by_kind = {path.name.partition("_")[0]: path for path in paths}
    return {kind: KINDS[kind].result.load(path) for kind, path in by_kind.items()}


def test_what_is_there_is_taken(results, collected):
    assert list(collected) == [kind for kind in KINDS if kind in results]


def test_commands_do_not_tell_where_they_wrote(results, collected):
    command = "kvlens profile x -o runs/tiny-llama --n 30"
    assert collected["layers"] == results["layers"].model_copy(update={"command": command})
    assert collected["sweep"].command == "kvlens sweep MODEL -o runs/tiny-llama/sweep.json"
    command = "kvlens sweep x --what readout -o runs/tiny-llama/readout.json"
    assert collected["readout"].command == command
    command = "kvlens attend x --effects -o runs/tiny-llama/effects"
    assert collected["effects"] == results["effects"].model_copy(update={"command": command})


def test_attention_keeps_its_means_over_heads(results, collected):
    shift = results["shift-text"]
    small = collected["shift-text"]
    for kind in ("local", "propagated"):
        for before, after in zip(shift.ends(kind), small.ends(kind), strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-5)
        name = f"beta.{kind}.mean"
        mean = shift.arrays[name].mean(1)
        np.testing.assert_allclose(small.arrays[name][:, 0], mean, rtol=1e-6)
    after = results["patterns"].arrays["after"].mean(1)
    np.testing.assert_allclose(collected["patterns"].arrays["after"][:, 0], after, rtol=1e-6)


def test_single_heads_and_cosines_are_left_out(results, collected):
    assert {spectrum.head for spectrum in collected["lens"].spectra} == {None}
    assert isinstance(collected["lens"], KVLens)
    windows = collected["sweep"].windows
    assert [w.spearman for w in windows] == [w.spearman for w in results["sweep"].windows]
    assert {w.cosines for w in windows} == {()}
    swept = results["readout"]
    small = collected["readout"]
    assert {block.cosines for block in small.blocks} == {()} == {small.human}
    assert [b.spearman for b in small.blocks] == [b.spearman for b in swept.blocks]
    assert (small.best.block, small.n_pairs) == (swept.best.block, 12)


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "a\x1b[31m", r"\g<9>"])
def test_a_model_whose_name_leads_elsewhere_is_refused(name, results, tmp_path):
    model = results["layers"].model.model_copy(update={"name": name})
    profile = results["layers"].profile.model_copy(update={"model": model})
    layer_set = results["layers"].model_copy(update={"model": model, "profile": profile})
    layer_set.save(tmp_path / "run" / "layers.json")
    with pytest.raises(kvlens.InputError, match=r"layers\.json is of a model whose name"):
        collect(tmp_path / "run", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_with_a_day_a_score_table_keeps_what_it_lacks(tmp_path):
    """Beside what is measured anew stands what was there, with its day; without a day it goes."""
    whole = Scores.load(HOME / "data" / "scores_smollm2-135m.json")
    new = whole.model_copy(update={"scores": whole.scores[:1]})
    new.save(tmp_path / "run" / "scores.json")
    saved = tmp_path / "data" / "scores_smollm2-135m.json"
    whole.save(saved)
    assert collect(tmp_path / "run", saved.parent, "2026-11-30") == [saved]
    kept = Scores.load(saved).scores
    assert [score.place for score in kept] == [score.place for score in whole.scores]
    assert kept[0].measured is None
    assert all(score.measured for score in kept[1:])
    assert collect(tmp_path / "run", saved.parent) == [saved]
    assert len(Scores.load(saved).scores) == 1


def test_tasks_that_were_run_by_themselves_join_the_others(tmp_path):
    whole = Scores.load(HOME / "data" / "scores_smollm2-135m.json")
    alone = "Banking77Classification"
    parts = {
        "scores.json": [score for score in whole.scores if score.task != alone],
        "banking/scores.json": [score for score in whole.scores if score.task == alone],
    }
    for place, scores in parts.items():
        command = f"kvlens evaluate smollm2-135m -o /tmp/secret/{len(scores)}"
        path = tmp_path / "run" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.model_copy(update={"scores": tuple(scores), "command": command}).save(path)
    (written,) = collect(tmp_path / "run", tmp_path / "data")
    joined = Scores.load(written)
    places = {score.place: score for score in joined.scores}
    assert places == {score.place: score for score in whole.scores}
    run = "kvlens evaluate smollm2-135m -o runs/smollm2-135m"
    assert joined.command == f"{run} && {run}/banking"
