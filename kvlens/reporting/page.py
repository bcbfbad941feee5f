"""`kvlens report`: one self-contained HTML page of a run folder, which opens offline and fetches nothing.

1. read what the folder holds; 2. measure what is missing, if a model is given, and save it beside the rest; 3. fill
the template, report.html, whose words Jinja escapes; report.js draws the attention patterns, 16 bits a weight.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.attention import (
    KINDS,
    AttentionPatterns,
    AttentionShift,
    attention_patterns,
    attention_shift,
    token_label,
)
from kvlens.dimension import IDProfile
from kvlens.evaluate import Scores
from kvlens.files import InputError, sha256_file, versions, write_text
from kvlens.geometry import PLAIN, Geometry, measure
from kvlens.layers import LayerSet
from kvlens.models import LanguageModel
from kvlens.records import phrase
from kvlens.sweep import Sweep
from kvlens.texts import Texts
from kvlens.tokens import tokenize
from kvlens.wikipedia import calibration_texts

LIMIT, PATTERN_BUDGET = 8_000_000, 5_000_000  # bytes of the page, and of the attention patterns in it
SHOWN, LONGEST = 3, 256  # texts that the browser gets when they are measured here, and their most tokens
MOST, FEWEST = 64, 16  # a longer text is shown in so many bins of tokens; in fewer it says nothing
# Two readings of one early word, which the end of the sentence decides, and a word that comes back.
EXAMPLES = (
    "The bank was muddy, so we sat higher up and watched the river.",
    "The bank was unsure, so it asked for a second signature on the loan.",
    "What she had packed for the island was a knife, a mirror and a rope, and she lost the rope.",
)
Bars = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Run:
    """What a run folder holds; None, or no patterns, for what is missing."""

    folder: Path
    profile: IDProfile
    layers: LayerSet
    patterns: tuple[AttentionPatterns, ...]
    shift: AttentionShift | None
    geometry: Geometry | None
    scores: Scores | None
    sweep: Sweep | None
    hashes: dict[str, str]

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Raises InputError when profile.json or layers.json is missing, a file is damaged, or of another model."""
        folder = Path(folder)
        if not (folder / "profile.json").exists() or not (folder / "layers.json").exists():
            inside = ", ".join(sorted(str(path.parent) for path in folder.glob("*/layers.json")))
            hint = f"it has one of each model inside: {inside}" if inside else "make it with `kvlens profile MODEL`"
            raise InputError(f"{folder} is no run folder with profile.json and layers.json; {hint}")
        kinds: dict[str, Any] = {"profile.json": IDProfile, "layers.json": LayerSet, "geometry.json": Geometry}
        kinds |= {"scores.json": Scores, "sweep.json": Sweep, "attention/shift.safetensors": AttentionShift}
        paths = sorted(folder.glob("attention/patterns*.safetensors"), key=lambda path: (len(path.name), path.name))
        kinds |= {f"attention/{path.name}": AttentionPatterns for path in paths}
        found = {name: kind.load(folder / name) for name, kind in kinds.items() if (folder / name).exists()}
        model = found["layers.json"].model
        if others := [name for name, one in found.items() if not one.model.same_weights(model)]:
            other = found[others[0]].model.name
            raise InputError(f"{folder / others[0]} is of {other}, not of {model.name}: move it")
        return cls(
            folder=folder,
            profile=found["profile.json"],
            layers=found["layers.json"],
            patterns=tuple(one for name, one in found.items() if kinds[name] is AttentionPatterns),
            shift=found.get("attention/shift.safetensors"),
            geometry=found.get("geometry.json"),
            scores=found.get("scores.json"),
            sweep=found.get("sweep.json"),
            hashes={name: sha256_file(folder / name) for name in found},
        )

    @property
    def missing(self) -> list[tuple[str, str]]:
        """What is missing, and the command that makes it."""
        run, model = (shlex.quote(str(name)) for name in (self.folder, self.layers.model.name))
        again = f"kvlens report {run}"
        parts = [
            ("attention on single texts", again, self.patterns or not self.layers.layers),
            ("the attention shift over a corpus", again, self.shift or not self.layers.layers),
            ("embedding geometry", again, self.geometry),
            ("an evaluation table", f"kvlens evaluate {model} --layers {run}/layers.json -o {run}", self.scores),
            ("a sweep over the layers", f"kvlens sweep {model} --pairs PAIRS.jsonl -o {run}/sweep.json", self.sweep),
        ]
        return [(what, command) for what, command, there in parts if not there]


def report(
    folder: str | Path,
    output: str | Path | None = None,
    lm: LanguageModel | Callable[[], LanguageModel] | None = None,
    texts: Texts | None = None,
    n: int = 60,
    bars: Bars = lambda what: nullcontext(lambda done, total: None),
    command: str = "",
) -> Path:
    """Write the page of a run folder (default: report.html in it) and return its path.

    lm: the run's model, or what loads it, called only if attention or geometry is missing; without it the page shows
    what is there. texts: measure attention (again) on these, the average over all, the browser on the first 3 of at
    most 256 tokens. n: how many Wikipedia passages else. bars: what is measured -> context of a progress function.
    Raises InputError as `Run.read` and the measurements do, and when the page would exceed 8 MB.
    """
    run = Run.read(folder)
    if lm is not None and _measure(run, lm, texts, n, bars, command):
        run = Run.read(folder)
    path = Path(output or run.folder / "report.html")
    page = render(run)
    if (size := len(page.encode())) > LIMIT:
        raise InputError(f"the report would have {size / 1e6:.1f} MB, over 8: keep fewer attention/patterns files")
    write_text(path, page)
    return path


def _measure(run: Run, lm: Any, texts: Texts | None, n: int, bars: Bars, command: str) -> bool:
    """Measure and save what is missing and needs the model; whether anything was."""
    chosen, folder, wanted = run.layers, run.folder / "attention", bool(run.layers.layers)
    missing = {"patterns": wanted and not (run.patterns and texts is None)}
    missing |= {"shift": wanted and not (run.shift and texts is None), "geometry": run.geometry is None}
    if not any(missing.values()):
        return False
    try:
        lm = lm if isinstance(lm, LanguageModel) else lm()
    except InputError as error:
        raise InputError(f"{error}; or give --no-model, for a page of what is there") from error
    if not lm.info.same_weights(chosen.model):
        raise InputError(f"{lm.info.name} is no longer the model of this run (revision {lm.info.revision[:19]})")
    request = (chosen.layers, chosen.bias, chosen.position, chosen.prompts.document)
    if missing["patterns"]:
        items = EXAMPLES if texts is None else texts.items
        lengths = [len(t.ids) for t in tokenize(lm.tokenizer, items, request[-1], lm.info.max_positions)]
        short = [text for text, length in zip(items, lengths, strict=True) if length <= LONGEST][:SHOWN]
        if not short:
            raise InputError(f"every text has more than {LONGEST} tokens: give at least one shorter, for the browser")
        results = [attention_patterns(lm, text, *request) for text in short]
        for old in folder.glob("patterns-*.safetensors"):
            old.unlink()
        for i, result in enumerate(results, 1):
            result.save(folder / f"patterns-{i}.safetensors")
    if missing["shift"]:
        with bars("attention shift") as bar:
            # The prompt's tokens are the same in every text, and position 0 is the attention sink.
            shift = attention_shift(lm, texts or calibration_texts(n), *request, span="text", progress=bar)
        shift.save(folder / "shift.safetensors")
    if missing["geometry"]:
        many = texts if texts and len(texts) >= 20 else calibration_texts(max(n, 20))
        with bars("embedding geometry") as bar:
            geometry = measure(lm, chosen, texts=many, progress=bar, command=command)
        geometry.save(run.folder / "geometry.json")
    return True


def render(run: Run) -> str:
    """The page. Raises InputError when the attention patterns do not fit or are damaged."""
    from jinja2 import Environment, StrictUndefined
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    from kvlens.attention_plots import MAP, plot_beta, plot_ends
    from kvlens.lens_plots import plot_sentences
    from kvlens.plots import picture_html, plot_profile

    share = PATTERN_BUDGET // max(len(run.patterns), 1)
    texts = [_browser(patterns, i, run.layers, share) for i, patterns in enumerate(run.patterns, 1)]
    home = files("kvlens")
    script = home.joinpath("report.js").read_text(encoding="utf-8")
    pictures = {"profile": picture_html(plot_profile(run.profile, run.layers, width=7.4), "ID by layer")}
    if run.shift:
        name = "prefix's weight by layer, first and last tenth of the tokens"
        pictures["ends"] = picture_html(plot_ends(run.shift, width=5.4), name)
        pictures["beta"] = picture_html(plot_beta(run.shift, width=5.4), "prefix's weight by layer and position")
    if run.geometry:
        name = "cosines of related and unrelated sentences by method"
        pictures["sentences"] = picture_html(plot_sentences(run.geometry, width=11)[0], name)
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(home.joinpath("report.html").read_text(encoding="utf-8")).render(
        run=run,
        verdict=[sentence.replace(" %", "\u00a0%") for sentence in _verdict(run)],
        pictures=pictures,
        data={"texts": texts, "colours": [to_hex(colormaps[MAP](share)) for share in np.linspace(0, 1, 32)]},
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        phrase=phrase,
        versions=_versions(run),
    )


def _versions(run: Run) -> list[tuple[str, str]]:
    """(parts of the run, versions that they were made with): parts made alike share a line."""
    parts: dict[str, Any] = {"profile": run.profile, "layer set": run.layers, "attention shift": run.shift}
    parts |= {f"attention patterns {i}": one for i, one in enumerate(run.patterns, 1)}
    parts |= {"geometry": run.geometry, "evaluation": run.scores, "sweep": run.sweep}
    made: dict[str, list[str]] = {}
    for name, found in [*((name, one.versions) for name, one in parts.items() if one), ("this page", versions())]:
        made.setdefault(", ".join(f"{library} {version}" for library, version in found.items()), []).append(name)
    return [(", ".join(names), found) for found, names in made.items()]


def _verdict(run: Run) -> list[str]:
    """The findings in sentences, each number out of the results."""
    layers, said = run.layers, []
    if layers.warnings:
        more = f" ({len(layers.warnings)} warnings in all, below)" if len(layers.warnings) > 1 else ""
        said.append(f"Read the choice with care: {layers.warnings[0]}{more}.")
    if layers.profile != run.profile:
        said.append("profile.json is not the profile that these layers were chosen from.")
    if run.shift:
        said += [*_uptake(run.shift), *_moved(run.shift)]
    if run.geometry and {PLAIN, "kv_embedding"} <= (rows := {row.label: row for row in run.geometry.methods}).keys():
        off, on = rows[PLAIN].mean_cosine, rows["kv_embedding"].mean_cosine
        said.append(
            f"Embeddings of {run.geometry.n} texts have a mean cosine of {on:.3f} with re-routing and {off:.3f} with "
            "the same prompt and pooling without it (0: directions spread evenly; 1: all the same)."
        )
    scores = run.scores.scores if run.scores else ()
    for task in dict.fromkeys(score.task for score in scores):
        here = [score for score in scores if score.task == task]
        own = [score for score in here if score.label == "kv_embedding"]
        best = max(here, key=lambda score: score.value)
        quick = " (a quick look with --limit)" if best.limited else ""
        told = f"kv_embedding scores {own[0].value:.1f} ({own[0].low:.1f} to {own[0].high:.1f}); " if own else ""
        said.append(f"{task}{quick}: {told}best of {len(here)} is {best.label} with {best.value:.1f}.")
    return said


def _uptake(shift: AttentionShift) -> list[str]:
    told, where = {}, f"mean over {phrase(shift.layers)}, {shift.model.n_heads} heads"
    for kind in KINDS:
        ends = shift.arrays[f"ends.{kind}"].astype(np.float64).mean((2, 3))
        ends = 100 * ends[np.isfinite(ends).all(1)]
        if not len(ends):
            return ["No text has a token of its own, so that there is no uptake to tell."]
        (early, late), step, n = ends.mean(0), ends[:, 1] - ends[:, 0], len(ends)
        half = 1.96 * step.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
        range_ = f", 95 % interval ± {half:.1f}" if n > 1 else ""
        told[kind] = f"{early:.1f} % against {late:.1f} % (difference {step.mean():+.1f} points{range_})"
        if kind == "local":
            clear = "less than" if early < late else "more than"
            much = clear if abs(step.mean()) > half else "as much, within error, as"
    if shift.span == "prompted":
        caveat = (
            "Counted over prompt and text: the first tenth holds position 0, the attention sink, and the prompt's "
            "opening, the last tenth the prompt's end, so that this compares kinds of token, too."
        )
    elif shift.prompt.prefix:
        caveat = "Only the text's own tokens count: the prompt, and position 0 where attention sinks, do not."
    else:
        caveat = "Only the text's own tokens count; no prompt precedes them: the sink at position 0 is an early one."
    return [
        f"Early tokens give the prefix {much} late ones do. Share of their attention, first tenth of the tokens "
        f"against the last: {told['local']}; {where} and {n} texts, each layer's own prefix on unchanged inputs "
        f"(local). {caveat}",
        f"With the layers below re-routed too (propagated): {told['propagated']}.",
    ]


def _moved(shift: AttentionShift) -> list[str]:
    moved, towards = (100 * shift.arrays[f"{name}.mean"][-1, 0] for name in ("moved.relative", "final.towards"))
    if not np.isfinite([moved[0], moved[-1], towards[0]]).all():
        return []
    return [
        f"Hidden states after the last block move by {moved[0]:.1f} % of their length in the first 1/{shift.bins} of "
        f"the tokens, {moved[-1]:.1f} % in the last; the early ones' move has cosine {towards[0] / 100:.2f} with the "
        "way to the final token's state (1: straight towards it)."
    ]


def _browser(patterns: AttentionPatterns, number: int, layers: LayerSet, budget: int) -> dict[str, Any]:
    """One text for report.js: lower triangles row by row, uint16 ``65535 sqrt(weight)``, base64."""
    arrays, n, L, H = patterns.arrays, len(patterns.tokens), len(patterns.layers), patterns.model.n_heads
    shapes = {"before": (L, H, n, n), "after": (L, H, n, 1 + n), "beta": (L, H, n)}
    if any(arrays.get(k, np.empty(0)).shape != v or not np.isfinite(arrays[k]).all() for k, v in shapes.items()):
        raise InputError(f"attention patterns {number} are damaged (shapes or NaN): run `kvlens attend` again")
    cost = L * H * 2 * 4 / 3  # bytes of one weight in every layer and head
    fits = (m for m in range(min(n, MOST), 0, -1) if cost * m * ((2 + (m < n)) * (m + 1) / 2 + 2) <= budget)
    if (m := next(fits, 0)) < min(n, FEWEST):
        raise InputError(
            f"attention patterns of {L} layers and {H} heads on so many texts do not fit into 8 MB: remove some "
            "attention/patterns files, or re-route fewer layers"
        )
    edges = np.linspace(0, n, m + 1).round().astype(int)
    starts, spans = edges[:-1], list(pairwise(edges))

    def over_queries(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, starts, axis=2) / np.diff(edges)[:, None]

    before, beta = arrays["before"], arrays["beta"][..., None]
    squares = {"before": before, "after": arrays["after"][..., 1:]}
    squares |= {"local": (1 - beta) * before} if m < n else {}  # else report.js computes it
    squares = {k: np.add.reduceat(over_queries(v), starts, axis=3) for k, v in squares.items()}
    columns = {"beta": over_queries(beta)[..., 0], "prefix": over_queries(arrays["after"][..., :1])[..., 0]}
    low, high = patterns.text_span
    own, differs = "".join(patterns.tokens[low:high]), ""
    if patterns.layers != layers.layers:
        differs = f"Measured with {phrase(patterns.layers)}, not with the layer set's. "
    note = f"{n} tokens in {m} bins: weights on a bin's keys summed, mean over a bin's queries." if m < n else ""
    tokens = ["".join(patterns.tokens[a:b]) for a, b in spans]
    return {
        "name": f"{number}: {own[:60]}{'…' if len(own) > 60 else ''} ({n} tokens)",
        "layers": patterns.layers,
        "heads": H,
        "tokens": [token if len(token) <= 200 else f"{token[:199]}…" for token in tokens],
        "labels": [token_label(t) if m == n else f"{a}-{b - 1}" for t, (a, b) in zip(tokens, spans, strict=True)],
        "places": [f"{a}" if b - a == 1 else f"{a}-{b - 1}" for a, b in spans],
        "own": [bool(a < high and b > low) for a, b in spans],
        "note": differs + note,
        **{k: _pack(v[:, :, *np.tril_indices(m)]) for k, v in squares.items()},
        **{k: _pack(v) for k, v in columns.items()},
    }


def _pack(weights: np.ndarray) -> str:
    whole = np.sqrt(np.clip(weights, 0, 1, dtype=np.float64)) * 65535
    return base64.b64encode(whole.round().astype("<u2").tobytes()).decode()
