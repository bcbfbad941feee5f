"""Evaluate: methods on mteb's own tasks and scoring, with intervals, significance, and results that resume."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import io
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from kvlens.cache import EmbeddingCache
from kvlens.encoder import Encoder
from kvlens.files import InputError, atomic_path, versions, write_text
from kvlens.layers import LayerSet
from kvlens.methods import methods as all_methods
from kvlens.models import LanguageModel, ModelInfo
from kvlens.post import Post, fit
from kvlens.prompts import Prompt, get_prompt
from kvlens.records import FileRecord, Record
from kvlens.significance import bootstrap, holm, p_value, statistic
from kvlens.tasks import TREC, import_mteb, load_data, subset_of, unit
from kvlens.wikipedia import calibration_texts

REFERENCE, NO_REROUTING = "kv_embedding", "kv_embedding:layers=none"
CALIBRATION = 600  # passages that the post-processing is fitted on

Progress = Callable[[str], contextlib.AbstractContextManager[Callable[[int, int], None]]]


class Score(Record):
    """One method on one task.

    label: what a table shows, the method and what tells it from its other rows. post: center, zscore, whiten or None.
    settings: the method's. value: mteb's main score x 100; low, high: its bootstrap 95 % interval; n: how many of
    `unit` were resampled. difference: this minus kv_embedding with the same post-processing, x 100, and p, its
    two-sided paired bootstrap p-value, adjusted by Holm; None for kv_embedding and without it. limited: made with
    --limit, not comparable with published values.
    """

    method: str
    label: str
    post: str | None
    settings: dict[str, Any]
    task: str
    split: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    p: float | None
    difference: float | None
    limited: bool


class Scores(FileRecord):
    """A table of scores of one model. Saved as JSON and loads back equal."""

    what: ClassVar[str] = "a score table"
    again: ClassVar[str] = "run `kvlens evaluate` again"

    format: Literal["kvlens.scores"] = "kvlens.scores"
    version: Literal[1] = 1
    model: ModelInfo
    max_length: int
    scores: tuple[Score, ...]
    versions: dict[str, str]
    command: str

    def csv(self) -> str:
        """One line a score, without the settings."""
        names = [name for name in Score.model_fields if name != "settings"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", "max_length", *names])
        writer.writerows([self.model.name, self.max_length, *(getattr(s, n) for n in names)] for s in self.scores)
        return text.getvalue()

    def table(self) -> str:
        """Methods by tasks in Markdown, with the interval and + / - for what is better / worse than kv_embedding."""
        cells = {(s.label, s.task): s for s in self.scores}
        tasks, labels = (list(dict.fromkeys(key[i] for key in cells)) for i in (1, 0))
        rows = [[self.model.name, *tasks], []]
        for label in labels:
            rows.append([label.replace("|", "\\|"), *(_cell(cells.get((label, task))) for task in tasks)])
        widths = [max(len(row[i]) for row in rows if row) for i in range(len(tasks) + 1)]
        rows[1] = ["-" * width for width in widths]
        return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)

    def __str__(self) -> str:
        return self.table()

    def markdown(self) -> str:
        """`table`; what the numbers are, below."""
        sizes = {s.task: f"{s.task} {s.metric} ({s.split}, {s.n} {s.unit})" for s in self.scores}
        notes = [
            f"Scores x 100 by mteb: {'; '.join(sizes.values())}. Brackets: 95 % bootstrap interval over these.",
            f"+ / -: better / worse than {REFERENCE} with the same post-processing, p < 0.05 (two-sided paired "
            "bootstrap, Holm over the rows of a task and post-processing).",
            f"At most {self.max_length} tokens a text, prompt included.",
        ]
        if any(s.limited for s in self.scores):
            notes.insert(0, "**NOT COMPARABLE with published values: only a part of each task (--limit).**")
        return "\n".join([self.table(), "", *notes, *([f"`{self.command}`"] if self.command else [])]) + "\n"

    def _repr_markdown_(self) -> str:
        return self.markdown()


def _cell(score: Score | None) -> str:
    if score is None:
        return ""
    mark = " " if score.p is None or score.p >= 0.05 else "+" if (score.difference or 0) > 0 else "-"
    return f"{score.value:.1f}{mark} ({score.low:.1f} to {score.high:.1f})"


def evaluate(
    lm: LanguageModel,
    tasks: Iterable[Any],
    folder: str | Path,
    methods: Sequence[str] = (REFERENCE,),
    layers: LayerSet | str | Path | Sequence[int] | None = None,
    posts: Sequence[str | None] = (None,),
    limit: int | None = None,
    instructions: bool = False,
    max_length: int | None = None,
    batch_tokens: int = 4096,
    force: bool = False,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> Scores:
    """Score methods on tasks of mteb (see `kvlens.tasks`, `kvlens.long_context`): mteb's own main scores x 100.

    methods: names, with settings after colons if need be, such as ``kv_embedding:layers=none`` (no re-routing),
    ``kv_embedding:layers=7-10:bias=3``, ``mean:document=kv-document``; ``all``: every one, and no re-routing. layers:
    for kv_embedding, a layer set, its file or block indices. posts: a row each; fitted on 600 Wikipedia passages
    under the document prompt. limit: only so many pairs, test texts or queries, evenly spread; no comparable result.
    instructions: mteb's task instruction in front of the prompt of queries and of symmetric tasks. max_length: token
    limit with the prompt, default the model's context. folder: mteb's results (``results/``), resumed by (model,
    method, post, task), then scores.json, .csv and .md; with a limit, scores-limit-N.* and ``limit-N/results/``.

    Intervals are percentiles of 2,000 seeded bootstrap draws; p is two-sided, from the same draws of both methods,
    adjusted by Holm over the rows of one task and post-processing. Raises InputError for what cannot be evaluated.
    """
    mteb, tasks, folder, cache = import_mteb(), list(tasks), Path(folder), cache or EmbeddingCache()
    specs = [part for spec in methods for part in ([*all_methods(), NO_REROUTING] if spec == "all" else [spec])]
    options = {"max_length": max_length, "batch_tokens": batch_tokens, "force": force}
    encoders = [(spec, _encoder(lm, spec, layers, options)) for spec in dict.fromkeys(specs)]
    try:
        store = mteb.ResultCache(folder / f"limit-{limit}" if limit else folder)
        with tempfile.TemporaryDirectory(dir=store.cache_path):
            pass  # now, not after hours of embedding
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    fits: dict[tuple[str, str], Post] = {}
    scores: list[Score] = []
    for task in tasks:
        rows: list[tuple[Score, np.ndarray]] = []
        name, metric, split = task.metadata.name, task.metadata.main_score, ",".join(task.eval_splits)
        facts: dict[str, Any] = {"limit": limit} if limit else {}
        facts |= {} if split == ",".join(task.metadata.eval_splits) else {"split": split}
        for spec, plain in encoders:
            for kind in posts:
                encoder = _instructed(plain, task) if instructions else copy(plain)
                label = _label(spec) + (f" + {kind}" if kind else "")
                with (progress or _silent)(f"{label} on {name}") as bar:
                    if kind and (key := (encoder.signature, kind)) not in fits:
                        vectors = cache.encode(encoder, calibration_texts(CALIBRATION).items, "document", bar)
                        fits[key] = fit(vectors, kind, encoder.signature)
                    encoder.post = fits[encoder.signature, kind] if kind else None
                    value, items = _run(mteb_encoder(encoder, cache, facts, bar), task, store, limit)
                draws = bootstrap(items, metric)
                low, high = (round(100 * float(x), 6) for x in np.nanpercentile(draws, (2.5, 97.5)))
                score = Score(
                    method=encoder.method.name,
                    label=label,
                    post=kind,
                    settings=json.loads(json.dumps(encoder.method.settings())),
                    task=name,
                    split=split,
                    metric=metric,
                    value=100 * value,
                    low=low,
                    high=high,
                    n=sum(x.shape[1] for x in items),
                    unit=unit(task),
                    p=None,
                    difference=None,
                    limited=limit is not None,
                )
                rows.append((score, draws))
        scores += _compared(rows)
    longest = encoders[0][1].max_length
    table = Scores(model=lm.info, max_length=longest, scores=tuple(scores), versions=_versions(), command=command)
    stem = f"scores-limit-{limit}" if limit else "scores"
    table.save(folder / f"{stem}.json")
    write_text(folder / f"{stem}.csv", table.csv())
    write_text(folder / f"{stem}.md", table.markdown())
    return table


def mteb_encoder(
    encoder: Encoder,
    cache: EmbeddingCache | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """`encoder` as a model of mteb (its AbsEncoder), for ``mteb.evaluate(mteb_encoder(encoder), tasks)``.

    Queries get the query prompt, documents and the texts of symmetric tasks the document prompt. Vectors are float32
    ``[n, d]`` in the order of the texts; each distinct text is embedded once and kept in `cache`. All that decides a
    score, and `facts`, is hashed into ``mteb_model_meta.experiment_kwargs``, by which mteb files its results, and
    written out in ``loader_kwargs``. Raises InputError without the package mteb (extra ``kvlens[eval]``).
    """
    import_mteb()
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType

    store, info, method, post = cache or EmbeddingCache(), encoder.lm.info, encoder.method, encoder.post
    # The mean tells the calibration texts; the matrix follows from them up to rounding, which varies with threads.
    fitted = post and [post.kind, post.n, round(post.shrinkage, 6), post.matrix.shape, _hash(post.mean)]
    full = {"encoder": encoder.signature, "post": fitted, "versions": _versions(), **(facts or {})}
    digest = _hash(json.dumps(full, sort_keys=True).encode())

    class KVLensEncoder(AbsEncoder):
        model = encoder

        def encode(self, inputs: Any, *, prompt_type: Any = None, **options: Any) -> Any:
            texts = [text for batch in inputs for text in batch["text"]]
            if wrong := [text for text in texts if not isinstance(text, str)]:
                raise InputError(f"a text of {options['task_metadata'].name} is {wrong[0]}, no string")
            kind: Any = "query" if prompt_type == PromptType.query else "document"
            raw = torch.from_numpy(store.encode(encoder, texts, kind, progress))
            return encoder.finish(raw, None, False).numpy()

    adapter: Any = KVLensEncoder()
    adapter.mteb_model_meta = ModelMeta.create_empty(
        {
            "loader": lambda *args, **options: adapter,
            "loader_kwargs": {"settings": method.settings(), "max_length": encoder.max_length, **full},
            "name": f"kvlens/{Path(info.name).name}",
            "revision": info.revision.removeprefix("sha256:")[:40],
            "max_tokens": encoder.max_length,
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "experiment_kwargs": {"method": method.name, "post": post and post.kind, **(facts or {}), "hash": digest},
        }
    )
    return adapter


def _versions() -> dict[str, str]:
    return versions() | {"mteb": importlib.metadata.version("mteb")}


def _hash(content: Any) -> str:
    return sha256(content).hexdigest()[:16]


def _run(model: Any, task: Any, store: Any, limit: int | None) -> tuple[float, list[np.ndarray]]:
    """mteb's main score, and per split and subset what it is made of ``[k, n]`` (see `bootstrap`)."""
    from safetensors.numpy import load_file, save_file

    meta, name = model.mteb_model_meta, task.metadata.name
    parts = [(split, subset) for split in task.eval_splits for subset in task.hf_subsets]
    kept = store.get_task_result_path(name, meta).with_name(f"{name}.items.safetensors")
    result = store.load_task_result(name, meta) if kept.exists() else None
    if result is None or result.dataset_revision != task.metadata.revision or not _mains(result).keys() >= set(parts):
        load_data(task, limit)
        kept.unlink(missing_ok=True)  # of another revision of the data, should this run be stopped
        # Clustering draws its texts from these: every method gets the same ones.
        fresh, ranked, told = type(task)(), {}, {}
        task.rng_state, task.np_rng = fresh.rng_state, fresh.np_rng

        def keep(scores: Any, *args: Any, hf_split: str, hf_subset: str) -> Any:
            ranked[hf_split, hf_subset] = scores
            return type(task).task_specific_scores(task, scores, *args, hf_split=hf_split, hf_subset=hf_subset)

        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options: dict[str, Any] = {"cache": store, "overwrite_strategy": "always", "co2_tracker": False}
            options["encode_kwargs"] = {"batch_size": 32, "show_progress_bar": False}
            if unit(task) == "queries":
                task.task_specific_scores = keep  # the hook that mteb calls with every query's scores
            else:
                options["prediction_folder"] = place
            import_mteb().evaluate(model, task, show_progress_bar=False, **options)
            if unit(task) != "queries":
                told = json.loads((Path(place) / task.prediction_file_name).read_text(encoding="utf-8"))
        made, result = {}, store.load_task_result(name, meta)  # as written: rounded
        for split, subset in parts:
            own = ranked[split, subset] if ranked else told[subset][split]
            made[f"{split}/{subset}"] = _items(task, split, subset, _mains(result)[split, subset], own)
        with atomic_path(kept) as temporary:
            save_file(made, temporary)
    found = load_file(kept)
    items = [found[f"{split}/{subset}"] for split, subset in parts]
    mains = [float(_mains(result)[part]["main_score"]) for part in parts]
    if not np.isfinite(mains).all():
        raise InputError(f"mteb's score of {name} is not a number; the texts may all have one embedding")
    again = [float(statistic(x, np.ones((1, x.shape[1]), int), task.metadata.main_score)[0]) for x in items]
    # mteb writes six digits, five of what it averages over queries.
    if not np.allclose(again, mains, rtol=0, atol=1e-5 if unit(task) == "queries" else 1e-6):
        raise RuntimeError(f"{name}: {again} from single items, but {mains} by mteb: please report this")
    return float(np.mean(mains)), items


def _mains(result: Any) -> dict[tuple[str, str], Any]:
    return {(split, scores["hf_subset"]): scores for split, found in result.scores.items() for scores in found}


def _items(task: Any, split: str, subset: str, scores: Any, own: Any) -> np.ndarray:
    """What `statistic` needs, float64 ``[k, n]``, from mteb's own predictions."""
    main, data = task.metadata.main_score, subset_of(task, subset)[split]
    if unit(task) == "queries":
        kind, _, k = main.partition("_at_")
        return np.array([[own[query][f"{TREC[kind]}_{k}"] for query in sorted(own)]], dtype=np.float64)
    if main == "cosine_spearman":
        return np.array([own["cosine_scores"], data["score"]], dtype=np.float64)
    if main.endswith("_ap"):
        labels = data[task.label_column_name]
        rows = {name: np.array(own[f"{name}_scores"]) for name in ("similarity", "cosine", "dot")}
        rows |= {name: -np.array(own[f"{name}_distances"]) for name in ("manhattan", "euclidean")}
        chosen = list(rows.values()) if main == "max_ap" else [rows[main.removesuffix("_ap")]]
        return np.array([labels[0] if len(data) == 1 else labels, *chosen], dtype=np.float64)
    if unit(task) == "test texts":
        return (np.array(own) == np.array(data[task.label_column_name])).mean(0, keepdims=True)
    if unit(task) == "experiments":
        return np.array([[one[main] for one in scores["scores_per_experiment"]]], dtype=np.float64)
    levels = scores["v_measures"]
    return np.array([np.concatenate(list(levels.values())) if isinstance(levels, dict) else levels])


def _compared(rows: Sequence[tuple[Score, np.ndarray]]) -> list[Score]:
    """The scores of one task, each with its difference from kv_embedding of the same post-processing."""
    bases = {score.post: (score.value, draws) for score, draws in rows if score.label.split(" + ")[0] == REFERENCE}
    found = [score for score, _ in rows]
    for post, (value, base) in bases.items():
        others = [i for i, (score, draws) in enumerate(rows) if score.post == post and draws is not base]
        for i, p in zip(others, holm([p_value(rows[i][1] - base) for i in others]), strict=True):
            found[i] = found[i].model_copy(update={"p": p, "difference": found[i].value - value})
    return found


def _encoder(lm: LanguageModel, spec: str, layers: Any, options: Mapping[str, Any]) -> Encoder:
    name, *pairs = spec.strip().split(":")
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"cannot read {spec!r}: settings are written as in {NO_REROUTING}")
        settings[key] = _value(key, text)
    if name != REFERENCE:
        return Encoder(lm, name, **options, **settings)
    own = settings.pop("layers", None)
    encoder = Encoder(lm, name, own if layers is None else layers, **options, **settings)
    return encoder if own is None else Encoder(lm, replace(encoder.method, **{"layers": own}), **options)


def _value(key: str, text: str) -> Any:
    if key in ("query", "document"):
        return get_prompt(text)
    with contextlib.suppress(ValueError):
        if key != "layers":
            return json.loads(text)
        parts = [part.split("-") for part in text.split("+")] if text != "none" else []
        if all(len(part) <= 2 and int(part[0]) <= int(part[-1]) for part in parts):
            return tuple(i for part in parts for i in range(int(part[0]), int(part[-1]) + 1))
    if key == "layers":
        raise InputError(f"layers={text}: give none, or layers such as 7-10 or 7+9")
    return text


def _label(spec: str) -> str:
    name, *pairs = spec.strip().split(":")
    words = ["no re-routing" if pair == "layers=none" else pair.replace("=", " ") for pair in pairs]
    return f"{name} ({', '.join(words)})" if words else name


def _instructed(encoder: Encoder, task: Any) -> Encoder:
    """With mteb's instruction in front of the query prompt; of the document prompt where a task has no queries."""
    from mteb.types import PromptType

    asked = unit(task) == "queries"
    text = mteb_encoder(encoder).get_instruction(task.metadata, PromptType.query if asked else None)
    field = "query" if asked else "document"
    plain: Prompt = getattr(encoder.method, field)
    prompt = Prompt(name=f"{plain.name}-instructed", prefix=f"Instruct: {text}\n{plain.prefix}", suffix=plain.suffix)
    changes: dict[str, Any] = {field: prompt}
    method = replace(encoder.method, **changes)
    return Encoder(encoder.lm, method, max_length=encoder.max_length, batch_tokens=encoder.batch_tokens)


def _silent(what: str) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
    return contextlib.nullcontext(lambda done, total: None)


def register(name: str) -> Any:
    """Enter ``kvlens/MODEL:METHOD:key=value`` into mteb's registry, for its command line and ``mteb.get_model``.

    ``python -m kvlens.evaluate run -m NAME -t TASK`` is ``mteb run`` with that. Returns the ModelMeta.
    """
    from mteb.models.model_implementations import MODEL_REGISTRY

    from kvlens.models import load

    place, _, spec = name.removeprefix("kvlens/").partition(":")
    MODEL_REGISTRY[name] = mteb_encoder(_encoder(load(place), spec or REFERENCE, None, {})).mteb_model_meta
    return MODEL_REGISTRY[name]


if __name__ == "__main__":
    from mteb.cli import main

    for argument in sys.argv[1:]:
        if argument.startswith("kvlens/"):
            try:
                register(argument)
            except InputError as error:
                print(f"kvlens: {error}", file=sys.stderr)
                sys.exit(2)
    main()
