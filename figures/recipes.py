"""The paper's figures, rebuilt from saved results without any model: ``python figures/recipes.py [DATA [FOLDER]]``.

1. `collect` takes what the figures need from a model's run folder (see ``figures/data.sh``) and makes it small;
2. each function of `FIGURES` draws one figure from that, its docstring being the caption, and adds numbers and
sources; 3. `build` writes NAME.png, NAME.pdf and the caption NAME.md.
"""

from __future__ import annotations

import inspect
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.analysis.lens import KVLens
from kvlens.analysis.method_geometry import PLAIN, Geometry
from kvlens.evaluation.scores import Scores
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.geometry import plot_geometry, plot_sentences
from kvlens.plots.patterns import plot_patterns
from kvlens.plots.profile import plot_profile
from kvlens.plots.scores import plot_lengths, plot_scores
from kvlens.plots.states import plot_ranks, plot_similarities
from kvlens.plots.style import COLOUR_MAP as MAP
from kvlens.plots.style import STYLE, new_axes, save_figures
from kvlens.plots.sweeps import plot_study, plot_sweep
from kvlens.plots.uptake import plot_ends
from kvlens.plots.words import SPANS as WORDS
from kvlens.store.errors import InputError
from kvlens.store.files import write_text
from kvlens.store.layer_ranges import phrase
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.regret import LayerStudy

WIDE = 6.9  # inches: two columns
KINDS: dict[str, tuple[Any, str]] = {  # kind: its class, and its file in a run folder
    "layers": (LayerSet, "layers.json"),
    "shift-prompted": (AttentionShift, "all-prompted/shift.safetensors"),
    "shift-text": (AttentionShift, "all-text/shift.safetensors"),
    "shift-chosen": (AttentionShift, "chosen-text/shift.safetensors"),
    "patterns": (AttentionPatterns, "patterns/patterns.safetensors"),
    "lens": (KVLens, "lens/kv_lens.json"),
    "geometry": (Geometry, "lens/geometry.json"),
    "scores": (Scores, "scores.json"),
    "retrieval": (Scores, "retrieval/scores.json"),
    "lengths": (Scores, "lengths/scores.json"),
    "longest": (Scores, "longest/scores.json"),  # more lengths, perhaps of fewer methods
    "sweep": (Sweep, "sweep.json"),
    "study": (LayerStudy, "study.json"),
}
Drawn = tuple[Any, str, list[str]]  # figure, numbers for its caption, sources


def collect(run: str | Path, data: str | Path) -> list[Path]:
    """Copy the results in `run` to ``DATA/KIND_MODEL``, without what no figure shows (single heads, cosines of a
    sweep) and without where a command wrote. Returns the paths; raises InputError for a file that cannot be read."""
    written = []
    for kind, (cls, name) in KINDS.items():
        if not (path := Path(run) / name).exists():
            continue
        one = cls.load(path)
        if cls in (AttentionShift, AttentionPatterns):
            kept = [
                key
                for key in one.arrays
                if re.fullmatch(r"beta\.\w+\.mean|ends.*|before|after|beta", key)
            ]
            means = {
                key: one.arrays[key].mean(-1 if "ends" in key else 1, keepdims=True) for key in kept
            }
            one = replace(one, arrays={key: mean.astype(np.float32) for key, mean in means.items()})
        else:
            changes: dict[str, Any] = {}
            if getattr(one, "command", None):
                file = "sweep.json" if cls in (Sweep, LayerStudy) else Path(name).parent
                place = Path("runs", one.model.name, file)
                command = re.sub(" --(overwrite|resume)( |$)", r"\2", one.command)
                changes["command"] = re.sub(
                    r" (-o|--output) \S+", f" -o {place.as_posix()}", command
                )
            if cls is KVLens:
                changes["spectra"] = tuple(
                    s.model_copy(update={"energy": ()}) for s in one.spectra if s.head is None
                )
            if cls is Sweep:
                windows = tuple(w.model_copy(update={"cosines": ()}) for w in one.windows)
                changes |= {"windows": windows, "sets": (), "plain_cosines": (), "human": ()}
            one = one.model_copy(update=changes)
        written.append(one.save(Path(data) / f"{kind}_{one.model.name}{path.suffix}"))
    return written


def _load(data: Path, *kinds: str, model: str = "*") -> list[tuple[Any, ...]]:
    """For each model that has them all, its results of these kinds. Raises InputError when there is no such model."""
    found = []
    for kind in kinds:
        cls, name = KINDS[kind]
        paths = sorted(data.glob(f"{kind}_{model}{Path(name).suffix}"))
        found.append({path.stem.partition("_")[2]: cls.load(path) for path in paths})
    if not (models := [model for model in found[0] if all(model in one for one in found)]):
        raise InputError(f"{data} has no {' and '.join(f'{kind}_{model}' for kind in kinds)} yet")
    return [tuple(one[model] for one in found) for model in models]


def _source(one: Any, data: str, command: str) -> str:
    made = ", ".join(f"{name} {version}" for name, version in one.versions.items())
    return f"* {one.model.name} ({one.model.revision[:19]}, {one.model.dtype}): {data}.\n  `{command}`\n  ({made})"


def _texts(one: Any) -> str:
    return f"n = {one.texts.n} {one.texts.source}, prompt {one.prompt.name}"


def _attended(one: Any, kind: str) -> str:
    """The source of an attention result that was made with default settings."""
    if isinstance(one, AttentionPatterns):
        text = "".join(one.tokens).removeprefix(one.prompt.prefix).removesuffix(one.prompt.suffix)
        given = f"--text {shlex.quote(text)}"
        data = f"n = 1 text, {len(one.tokens)} tokens with the prompt {one.prompt.name}"
    else:
        given = f"--texts wikipedia --n {one.texts.n} --span {one.span}"
        data = f"{_texts(one)}, {sum(one.n_tokens):,} tokens"
    layers = phrase(one.layers).split(" ", 1)[1].replace(" ", "")
    place = f"runs/{one.model.name}/{Path(KINDS[kind][1]).parent}"
    return _source(
        one, data, f"kvlens attend {one.model.name} --layers {layers} {given} -o {place}"
    )


def _rows(
    results: Sequence[Any], columns: int, height: float, plot: Any = None, **options: Any
) -> tuple[Any, Any]:
    """A figure with a row of axes for each result, under its model's name, drawn by `plot`; a legend only above."""
    figure: Any = new_axes(WIDE, height * len(results))[0].figure
    figure.clear()
    parts = np.atleast_1d(figure.subfigures(len(results), 1))
    rows = [list(part.subplots(1, columns, squeeze=False, **options).flat) for part in parts]
    for one, part, axes in zip(results, parts, rows, strict=True):
        part.suptitle(f"{one.model.name} ({one.model.n_layers} layers)", fontsize=9, weight="bold")
        if plot:
            plot(one, axes)
        if axes is not rows[0] and axes[0].get_legend():
            axes[0].get_legend().remove()
    return figure, rows


def _bar(image: Any, axes: Any, label: str) -> None:
    bar = image.get_figure(root=False).colorbar(image, ax=axes, pad=0.02, aspect=30)
    bar.set_label(label)
    bar.outline.set_visible(False)


def layer_id(data: Path) -> Drawn:
    """Intrinsic dimension of the final token's hidden state after each block, over relative depth."""
    sets = [one for (one,) in _load(data, "layers")]
    figure = plot_profile([s.profile for s in sets], sets, width=WIDE).figure
    text = " ".join(f"{s.model.name}: {s.reason}" for s in sets)
    return figure, text, [_source(s, _texts(s.profile), s.command or "") for s in sets]


def layer_id_smollm(data: Path) -> Drawn:
    """Intrinsic dimension of the final token's hidden state after each block of one model, by two estimators."""
    ((one,),) = _load(data, "layers", model="smollm2-135m")
    figure = plot_profile(one.profile, one, width=5.0).figure
    return figure, one.reason, [_source(one, _texts(one.profile), one.command or "")]


def beta_by_layer(data: Path) -> Drawn:
    """Left and middle: the weight beta that queries give to the re-routed prefix (mean over heads and tokens),
    for every layer on unchanged inputs (local effect), by tenths of the prompted text and of the text's own
    tokens. Where the first tenth stands out on the left alone, it is the prompt's tokens, the attention sink
    among them, that take the prefix up, not the text's early tokens. Each model has its own colour scale. Right:
    the chosen layers, the first and the last tenth of the text's own tokens; bars: one standard deviation over
    texts. Propagated: the chosen layers below are re-routed as well."""
    kinds = ("shift-prompted", "shift-text", "shift-chosen")
    results, told = _load(data, *kinds), []
    figure, rows = _rows([row[0] for row in results], 3, 2.6, width_ratios=(1, 1, 1.2))
    for axes, shown in zip(rows, results, strict=True):
        maps = [one.arrays["beta.local.mean"].mean(1) for one in shown[:2]]
        for ax, one, values in zip(axes, shown, maps, strict=False):
            extent = (0, 100, len(values) - 0.5, -0.5)
            image = ax.imshow(
                values, MAP, aspect="auto", vmin=0, vmax=max(m.max() for m in maps), extent=extent
            )
            ax.spines[:].set_visible(False)
            ax.set(
                xlabel=f"position, % of\n{WORDS[one.span]}", ylabel="layer" if ax is axes[0] else ""
            )
        _bar(image, axes[:2], "prefix's weight β (local)")
        plot_ends(shown[2], axes[2])
        axes[2].set_xlabel("re-routed layer\n(the text's own tokens)")
        handles = axes[2].get_legend_handles_labels()
        axes[2].get_legend().remove()
        layer = shown[2].layers[0]
        top = one.layers[int(maps[1][:, 0].argmax())]
        for at, name in ((top, "takes most"), (layer, "the first chosen one")):
            (a, b), (c, d) = (values[one.layers.index(at), [0, -1]] for values in maps)
            told.append(f"{one.model.name}, layer {at} ({name}): {a:.3f} in the first, {b:.3f} in the last tenth of "
                        f"the prompted text, {c:.3f} and {d:.3f} of the text's own tokens.")  # fmt: skip
    figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
    return (
        figure,
        " ".join(told),
        [_attended(*one) for row in results for one in zip(row, kinds, strict=True)],
    )


def before_after(data: Path) -> Drawn:
    """Attention before and after re-routing on one text (mean over heads), at the lowest re-routed layer. The prefix,
    in a column of its own, offers every token the final token's key and value; all other weights shrink by what it
    takes, most visibly those on the sink. The first token had nothing but itself to attend to."""
    ((one,),) = _load(data, "patterns", model="smollm2-135m")
    beta, (first, end) = one.arrays["after"][0, :, :, 0].mean(0), one.text_span
    most = [
        f"“{one.tokens[i].strip()}” {beta[i]:.2f}" for i in first + np.argsort(-beta[first:end])[:4]
    ]
    mean, figure = beta[first:end].mean(), plot_patterns(one, one.layers[0], width=WIDE)[0].figure
    text = f"The prefix takes {beta[0]:.2f} of the first token's weight and {mean:.2f} of a text token's on average"
    return figure, f"{text}, most of {', '.join(most)}.", [_attended(one, "patterns")]


def similarity(data: Path) -> Drawn:
    """Cosine similarity of related and unrelated sentences by method, in one colour scale: a narrow cone shows as a
    bright square. Framed: sentences of one topic. Gap: mean cosine within topics less that across them."""
    results = [one for (one,) in _load(data, "geometry")]
    n_methods = max(len(one.cosines) for one in results)
    figure, rows = _rows(
        results, n_methods, 1.7, lambda one, axes: plot_sentences(one, axes, bar=False)
    )
    images = [ax.images[0] for axes in rows for ax in axes if ax.images]
    for image in images:
        image.set_clim(min(image.get_clim()[0] for image in images), 1)
    for axes in rows:
        _bar(axes[0].images[0], axes, "cosine")
    listed = {
        f"({g + 1}) {text}": 0
        for one in results
        for text, g in zip(one.sentences, one.groups, strict=True)
    }
    sources = [_source(one, f"n = {len(one.groups)} sentences", one.command) for one in results]
    return figure, f"By topic: {' '.join(listed)}", sources


def geometry(data: Path) -> Drawn:
    """Isotropy of the embeddings by method (mean cosine of different texts; evenness of the variance over
    directions), and uniformity against alignment of positive pairs (Wang and Isola 2020), marked as on the left."""
    results = [one for (one,) in _load(data, "geometry")]
    told = [f"n = {one.n} {one.data}; {one.n_pairs} positive pairs, {one.pairs}" for one in results]
    figure, found = _rows(results, 3, 2.5, plot_geometry)[0], []
    for one in results:
        of = {
            row.label: f"{row.uniformity:.2f}, {row.alignment:.3f}"
            for row in one.methods
            if row.alignment
        }
        found.append(
            f"{one.model.name}: {of.get('kv_embedding')}, without re-routing {of.get(PLAIN)}."
        )
    text = f"Uniformity and alignment of kv_embedding, {' '.join(found)}"
    return (
        figure,
        text,
        [_source(one, n, one.command) for one, n in zip(results, told, strict=True)],
    )


def kv_ranks(data: Path, plot: Any = plot_ranks) -> Drawn:
    """Over how many directions the final token's keys and values spread: effective rank (from the entropy of the
    singular values), and directions that hold 90 % of the variance; all KV heads side by side."""
    results = _load(data, "lens", "geometry")  # both come from one command
    figure = _rows([lens for lens, _ in results], 2, 2.5, plot)[0]
    return figure, "", [_source(lens, _texts(lens), made.command) for lens, made in results]


def kv_similarity(data: Path) -> Drawn:
    """How much the final token's states of each layer share with the final embedding. Grey: with the embeddings of
    other texts (permuted), mean ± 2 standard deviations over the draws."""
    return kv_ranks(data, plot_similarities)


def methods(data: Path) -> Drawn:
    """Scores of every method on every task with bootstrap 95 % intervals, without post-processing and with it, fitted
    on Wikipedia passages; the best mean without it on top; dotted: kv_embedding without it. In the tables + / -:
    better / worse than kv_embedding with the same post-processing, p < 0.05 (two-sided paired bootstrap, Holm over
    the rows of a task and post-processing)."""
    results, sources = _joined(data, "scores", "retrieval")
    cut = any(s.limited for one in results for s in one.scores)
    limited = "Not comparable with published values: made with --limit." if cut else ""
    n_tasks = max(len({s.task for s in one.scores}) for one in results)
    figure, rows = _rows(results, n_tasks, 2.6)
    for one, axes in zip(results, rows, strict=True):
        used = len({s.task for s in one.scores})
        plot_scores(one, axes[:used])
        for ax in axes[used:]:
            ax.remove()
    handles, labels = max(
        (row[0].get_legend_handles_labels() for row in rows), key=lambda one: len(one[1])
    )
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure, limited, sources


def lengths(data: Path) -> Drawn:
    """Retrieval of Wikipedia articles by their opening paragraph, against how many tokens of the article are read;
    bars: bootstrap 95 % intervals over queries; black: kv_embedding."""
    results, sources = _joined(data, "lengths", "longest")
    posts = list(dict.fromkeys(s.post for one in results for s in one.scores))
    axes = new_axes(WIDE, 2.5 * len(posts) + 0.6, len(posts), len(results), sharey=True)
    for ax, (post, one) in zip(
        axes, [(post, one) for post in posts for one in results], strict=True
    ):
        plot_lengths(one, post, ax)
        ax.set_title(f"{one.model.name}, {post or 'no post-processing'}", fontsize=9)
        ax.label_outer()
    axes[0].figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return axes[0].figure, "", sources


def _joined(data: Path, kind: str, more: str) -> tuple[list[Scores], list[str]]:
    """The score tables of a kind, each with those of the further kind where there are any; and all their sources."""
    results, sources = [], []
    for (one,) in _load(data, kind):
        parts = [one, *(Scores.load(path) for path in data.glob(f"{more}_{one.model.name}.json"))]
        results.append(
            one.model_copy(update={"scores": tuple(s for part in parts for s in part.scores)})
        )
        sources += [
            f"{_source(part, _tasks(part), part.command)}\n\n{part.table()}" for part in parts
        ]
    return results, sources


def _tasks(scores: Scores) -> str:
    return "; ".join(
        dict.fromkeys(f"{s.task} {s.split}, n = {s.n} {s.unit}" for s in scores.scores)
    )


def depth(data: Path) -> Drawn:
    """Above: quality when the layers of one window are re-routed, with bootstrap 95 % bands; dashed, grey: without
    re-routing. Below: intrinsic dimension ± 1.96 standard errors. Shaded: the layers that the rule chose. The best
    window is the best of many on these very pairs, so that its gain is too large."""
    results, told, sources = _load(data, "sweep", "layers"), [], []
    axes = np.array(
        new_axes(WIDE, 4.3, 2, len(results), sharex="col", height_ratios=(1.5, 1))
    ).reshape(2, -1)
    for pair, (one, chosen) in zip(axes.T, results, strict=True):
        plot_sweep(one, chosen, list(pair))
        pair[0].set_title(one.model.name, fontsize=9)
        pair[0].legend(loc="lower right", frameon=False, borderpad=0.2)
        best = max(one.windows, key=lambda w: w.spearman)
        told.append(f"{one.model.name}: {one.plain:.1f} without; best {best.spearman:.1f} ({best.low:.1f} to "
                    f"{best.high:.1f}), {phrase(best.layers)}, bias {best.bias:g}.")  # fmt: skip
        data_used = f"n = {one.n_pairs} pairs of {one.data}, prompt {one.prompt.name}, {one.pooling} pooling"
        sources.append(_source(one, data_used, one.command))
    return axes[0, 0].figure, " ".join(told), sources


def regret(data: Path) -> Drawn:
    """Does low intrinsic dimension (ID) find the best layers? Left: by how much the best window of the sweep beats
    the layers that each rule chooses from the ID of some states (hidden, keys, values) at some points (final token,
    mean over tokens, all tokens). Right: Spearman correlation, over all windows, of -ID and quality. Bars: 95 %
    intervals."""
    results = [one for (one,) in _load(data, "study")]
    height = sum(
        0.17 * len({(o.states, o.points, o.rule) for o in one.outcomes if o.states}) + 0.7
        for one in results
    )
    axes = new_axes(WIDE, height + 0.5, len(results), 2, sharey="row", width_ratios=(1.4, 1))
    for one, row in zip(results, zip(axes[::2], axes[1::2], strict=True), strict=True):
        plot_study(one, row)
        row[0].set_title(one.model.name, fontsize=9, loc="left")
    sources = [f"{_source(one, f'n = {one.n_pairs} pairs of {one.data}', one.command)}\n\n```\n{one}\n```"
               for one in results]  # fmt: skip
    return axes[0].figure, "", sources


FIGURES: dict[str, Callable[[Path], Drawn]] = {
    "layer_id": layer_id,
    "layer_id_smollm2-135m": layer_id_smollm,
    "beta_by_layer": beta_by_layer,
    "before_after": before_after,
    "similarity": similarity,
    "geometry": geometry,
    "kv_ranks": kv_ranks,
    "kv_similarity": kv_similarity,
    "methods": methods,
    "lengths": lengths,
    "depth": depth,
    "regret": regret,
}


def build(data: str | Path = "figures/data", folder: str | Path = "figures") -> list[Path]:
    """Draw every figure whose data is there; the same data gives the same bytes. Returns what was written."""
    from matplotlib import rc_context

    written = []
    for name, draw in FIGURES.items():
        try:
            with rc_context(STYLE):
                figure, numbers, sources = draw(Path(data))
        except InputError as error:
            print(f"{name}: left out, {error}")
            continue
        written += save_figures({name: figure}, folder)
        text = " ".join(f"{inspect.getdoc(draw)} {numbers}".split())
        text = "\n".join(textwrap.wrap(text, 118, break_on_hyphens=False, break_long_words=False))
        written.append(Path(folder) / f"{name}.md")
        write_text(
            written[-1],
            "\n\n".join([f"# {name}", text, "Data, with the commands:", *sources]) + "\n",
        )
    return written


if __name__ == "__main__":
    print(f"{len(build(*sys.argv[1:]))} files written")
