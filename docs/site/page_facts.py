"""Numbers of a page that a saved result holds: ``76.0<!--= plain smollm2-135m -->``.

The comment behind a number says where it comes from; making the site fails where the two differ.
Readers do not see it. Above a block, ``<!--= printed layers smollm2-135m -->`` says which result
prints its lines.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from saved_results import DATA, result, score
from score_tables import best_mean

import kvlens
from kvlens.evaluation.score import Score
from kvlens.plots.uptake import beta_map
from kvlens.store.layer_ranges import short
from kvlens.studies.windows import Window

FACT = re.compile(r"(?P<said>[^\s(|>*]+(?: \([^()]+\))?)\**<!--= (?P<words>.+?) -->")
PRINTED = re.compile(r"^<!--= printed (?P<words>.+?) -->\n+```text\n(?P<said>.*?)^```", re.M | re.S)
COMMENT = re.compile(r"<!--= .+? -->")


def wrong_facts(text: str) -> list[str]:
    """What a page says otherwise than the results; a line each."""
    problems = [problem for match in PRINTED.finditer(text) for problem in _not_printed(match)]
    for number, line in enumerate(text.splitlines(), start=1):
        for match in FACT.finditer(line):
            true = fact(match["words"])
            if match["said"] != true:
                words = match["words"]
                problems.append(f"line {number} says {match['said']}, {words} is {true}")
    return problems


def _not_printed(block: re.Match[str]) -> list[str]:
    """The lines of a block that its result does not print.

    The mark says kind and model, then first words of lines that the result is too old to print.
    """
    kind, model, *newer = shlex.split(block["words"])
    true = str(result(kind, model)).splitlines()
    said = [line for line in block["said"].splitlines() if line.split()[0] not in newer]
    return [f"{kind} {model} does not print: {line}" for line in said if line not in true]


def without_marks(text: str) -> str:
    """A page as readers see it."""
    return COMMENT.sub("", text)


def fact(words: str) -> str:
    """The number that a comment names, as it is written: ``score MODEL TASK LABEL``."""
    name, *arguments = shlex.split(words)
    return FACTS[name](*arguments)


def _score(model: str, task: str, label: str) -> str:
    return f"{score(model, task, label).value:.1f}"


def _best_mean(model: str, label: str) -> str:
    """A method's mean over the tasks of the first table, at its best post-processing."""
    return f"{best_mean(result('scores', model), label):.1f}"


def _ahead(model: str, task: str, label: str) -> str:
    """How far a row is ahead of kv_embedding with the same post-processing, with its interval."""
    row = score(model, task, label)
    return f"{row.difference:+.1f} ({row.difference_low:.1f} to {row.difference_high:.1f})"


def _rerouting(model: str, task: str, post: str) -> str:
    """By how much kv_embedding is ahead of itself without re-routing, with its interval."""
    label = "kv_embedding (no re-routing)"
    row = _with_post(model, task, label if post == "none" else f"{label} + {post}")
    low, high = -row.difference_high, -row.difference_low
    return f"{-row.difference:+.1f} ({low:.1f} to {high:.1f})"


def _post_adds(model: str, task: str, label: str) -> str:
    """What post-processing adds to the same method without any, with its interval."""
    row = _with_post(model, task, label)
    low, high = row.post_difference_low, row.post_difference_high
    return f"{row.post_difference:+.1f} ({low:.1f} to {high:.1f})"


def _with_post(model: str, task: str, label: str) -> Score:
    rows = result("posts", model).scores
    return next(each for each in rows if each.place == (label, task))


def _plain(model: str) -> str:
    return f"{result('sweep', model).plain:.1f}"


def _best_window(model: str, width: str, bias: str) -> Window:
    windows = result("sweep", model).windows_of(int(width), float(bias))
    return max(windows, key=lambda window: window.spearman)


def _best(model: str, width: str, bias: str) -> str:
    return f"{_best_window(model, width, bias).spearman:.1f}"


def _best_layers(model: str, width: str, bias: str) -> str:
    return short(_best_window(model, width, bias).layers)


def _read_last(model: str) -> str:
    return f"{result('readout', model).last.spearman:.1f}"


def _read_best(model: str) -> str:
    return f"{result('readout', model).best.spearman:.1f}"


def _read_block(model: str) -> str:
    return str(result("readout", model).best.block)


def _layers(model: str) -> str:
    return short(result("layers", model).layers).replace(",", ", ")


def _shape(model: str) -> str:
    return result("layers", model).shape.name


def _adds(model: str, words: str) -> str:
    """What a part of the measured route adds, by `Effect.words`, with its interval."""
    for effect in result("effects", model).effects:
        if effect.words == words and effect.score is not None:
            score = effect.score
            return f"{score.value:+.1f} ({score.low:.1f} to {score.high:.1f})"
    raise LookupError(f"no effect of {words!r} for {model}")


def _long(model: str, start: str) -> str:
    """The score of the one row of the controls on long texts whose label starts so."""
    rows = result("controls-long", model).scores
    (row,) = [each for each in rows if each.label.startswith(start)]
    return f"{row.value:.1f}"


def _long_exactly(model: str, label: str) -> str:
    rows = result("controls-long", model).scores
    (row,) = [each for each in rows if each.label == label]
    return f"{row.value:.1f}"


def _proven(model: str, label: str) -> str:
    """By how much what pairs chose is ahead of a row on test data, with its interval."""
    row = next(each for each in result("proof", model).scores if each.label == label)
    return f"{-row.difference:+.1f} ({-row.difference_high:.1f} to {-row.difference_low:.1f})"


def _rank(model: str, states: str, points: str, width: str, bias: str) -> str:
    """The rank correlation of low ID with quality over windows, with its interval."""
    asked = (states, points, int(width), float(bias))
    for each in result("study", model).correlations:
        if (each.states, each.points, each.width, each.bias) == asked:
            return f"{each.rho.value:+.2f} ({each.rho.low:.2f} to {each.rho.high:.2f})"
    raise LookupError(f"no correlation {asked} for {model}")


def _regret(model: str, rule: str, states: str, points: str, width: str, bias: str) -> str:
    """By how much the best window beats what a rule chose; states and points may be ``None``."""
    asked = (rule, states, points, int(width), float(bias))
    for each in result("study", model).outcomes:
        looked_at = (str(each.states), str(each.points))
        if (each.rule, *looked_at, each.width, each.bias) == asked:
            return f"{each.regret.value:.1f} ({each.regret.low:.1f} to {each.regret.high:.1f})"
    raise LookupError(f"no outcome {asked} for {model}")


def _beta(model: str, span: str, layer: str, end: str) -> str:
    """The prefix's weight in the first or last tenth of a span, on unchanged inputs."""
    shift = kvlens.open(DATA / f"shift-{span}_{model}.safetensors")
    row = beta_map(shift, "local")[shift.layers.index(int(layer))]
    return f"{row[{'first': 0, 'last': -1}[end]]:.3f}"


FACTS: dict[str, Callable[..., str]] = {
    "score": _score,
    "best_mean": _best_mean,
    "ahead": _ahead,
    "post_adds": _post_adds,
    "rerouting": _rerouting,
    "plain": _plain,
    "best": _best,
    "best_layers": _best_layers,
    "read_last": _read_last,
    "read_best": _read_best,
    "read_block": _read_block,
    "layers": _layers,
    "shape": _shape,
    "adds": _adds,
    "long": _long,
    "long_exactly": _long_exactly,
    "proven": _proven,
    "rank": _rank,
    "regret": _regret,
    "beta": _beta,
}
