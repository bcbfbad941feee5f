"""`kvlens lens`: what the final token's K and V hold, and the geometry of each method's vectors.

With `--words`, what they say in words; with `--low-rank`, how far W_K and W_V can be cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kvlens.cli.answers import Answer, folder_answer
from kvlens.cli.folders import output_folder, run_folder
from kvlens.cli.low_rank import LOW_RANK_FILES, write_low_rank
from kvlens.cli.options import (
    TEXTS,
    LengthOptions,
    ModelName,
    ModelOptions,
    RouteOptions,
    TextOptions,
)
from kvlens.cli.progress import progress
from kvlens.cli.recorded import Recorded, check_made_of
from kvlens.cli.values import Dashed, Names, WholeNumber, data_name, layers_or_file
from kvlens.cli.words import WORD_FILES, write_words
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.analysis.method_geometry import Geometry
    from kvlens.embedding.cache import EmbeddingCache
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.texts import Texts
    from kvlens.tracing.trace import Trace

WRITES = ("kv_*", "id_*.json", "id.*", "geometry.*", "sentences.*")
ONE_MEANING = 4  # pairs scored above it, of 5, count as one meaning


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Looked:
    """What is looked at.

    Attributes:
        words: read values, hidden states and the embedding as words, and nothing else
        n_words: how many texts for the words
        low_rank: cut W_K and W_V to lower ranks until the embedding moves, and nothing else
        n_low_rank: how many texts for that
        threshold: mean cosine to the uncut embedding that counts as unmoved
        n: how many texts for the KV lens
        n_geometry: how many of them for each method's geometry
        methods: methods whose geometry is compared, comma-separated [default: six]
        pairs: .jsonl with sentence1, sentence2, score: those above 4 count as one meaning
    """

    words: bool = False
    n_words: WholeNumber = 60
    low_rank: bool = False
    n_low_rank: WholeNumber = 20
    threshold: float = 0.99
    n: WholeNumber = 300
    n_geometry: WholeNumber = 200
    methods: Names | None = None
    pairs: Dashed | None = None

    def check(self, layers: str | None) -> None:
        """Raise InputError for what does not go together."""
        if self.words and self.low_rank:
            raise InputError("give `words` or `low_rank`, one at a time")
        if self.low_rank and layers is not None:
            raise InputError("`low_rank` cuts the plain model's weights: give no `layers`")

    def close_pairs(self) -> list[tuple[str, str]]:
        """The pairs of one meaning; none where no file was given."""
        from kvlens.texts.pairs import read_pairs

        if self.pairs is None:
            return []
        pairs = read_pairs(self.pairs)
        rows = zip(pairs.first, pairs.second, pairs.scores, strict=True)
        return [(first, second) for first, second, score in rows if score > ONE_MEANING]

    @property
    def pairs_source(self) -> str:
        """Where the pairs are from, as the results say it."""
        name = data_name(self.pairs) if self.pairs else ""
        return f"{name}, score above {ONE_MEANING}"


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class LensTexts(TextOptions):
    """Which texts are read.

    Attributes:
        text: one text, for --words or --low-rank
        texts: .txt, .jsonl, .csv, .tsv, .parquet, or - [default: Wikipedia passages]
    """

    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None

    def read(self, n: int | None, at_least: int = 1) -> Texts:
        """The one text, or as `TextOptions.read`; raises InputError for both."""
        from kvlens.texts.texts import as_texts

        if self.text is None:
            return super().read(n, at_least)
        if self.texts is not None:
            raise InputError("give either `text` or `texts`")
        return as_texts([self.text], source="the command line")


def lens(
    name: ModelName,
    /,
    *,
    route: RouteOptions = RouteOptions(),
    looked: Looked = Looked(),
    recorded: Recorded = Recorded(),
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    overwrite: bool = False,
    texts: LensTexts = LensTexts(),
    limits: LengthOptions = LengthOptions(),
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """What the final token's K and V hold: ID, rank, share of the embedding; geometry by method.

    With --words: what they, the hidden states and the embedding say in words.
    With --low-rank: how far W_K and W_V can be cut, layer by layer, before the embedding moves.

    Args:
        name: named model, hub id, directory or .gguf file
        route: the layers that are re-routed; those of the embedding with --words, or none
        looked: what is looked at
        recorded: what is recorded already, of the texts and the prompt of the embedding
        output: folder to write [default: runs/MODEL-lens]
        overwrite: replace what it wrote before; other files stay
        texts: which texts are read
        limits: how long a text may be
        model: how the model is loaded
    """
    from kvlens.dimension.copies import MIN_POINTS
    from kvlens.embedding.cache import EmbeddingCache

    folder = output or run_folder(name, suffix="-lens")
    looked.check(route.layers)
    if recorded.trace and (looked.words or looked.low_rank):
        raise InputError("`words` and `low_rank` run the model: give no `trace`")
    if looked.words:
        with output_folder(folder, overwrite, WORD_FILES) as scratch:
            read = texts.read(looked.n_words)
            layers = layers_or_file(route.layers)
            summary = write_words(model.load(name), read, layers, route.force, limits, scratch)
            files = sorted(path.name for path in scratch.iterdir())
        return folder_answer(folder, files, summary)
    if looked.low_rank:
        with output_folder(folder, overwrite, LOW_RANK_FILES) as scratch:
            read = texts.read(looked.n_low_rank)
            lm = model.load(name, hooked=False)
            summary = write_low_rank(lm, read, looked.threshold, limits, scratch)
            files = sorted(path.name for path in scratch.iterdir())
        return folder_answer(folder, files, summary)
    if route.layers is None:
        raise InputError("`layers` is missing: give a layer-set file, or layers such as 7-10")
    if texts.text is not None:
        raise InputError("one `text` is for `words` and `low_rank`: give `texts`")
    with output_folder(folder, overwrite, WRITES) as scratch:
        trace = recorded.load()
        read = texts.read(trace.texts.n if trace else looked.n, MIN_POINTS)
        pairs = looked.close_pairs()
        layers = layers_or_file(route.layers)
        lm = model.load(name)
        cache = EmbeddingCache()
        _write_lens(lm, read, trace, layers, route.force, limits, cache, scratch)
        geometry = _write_geometry(lm, read, pairs, looked, layers, route.force, cache, scratch)
        files = sorted(path.name for path in scratch.iterdir())
    return folder_answer(folder, files, "\n".join(_lines(geometry)))


def _write_lens(
    lm: LanguageModel,
    texts: Texts,
    trace: Trace | None,
    layers: Any,
    force: bool,
    limits: LengthOptions,
    cache: EmbeddingCache,
    folder: Path,
) -> None:
    """Write the KV lens, and the intrinsic dimension of every kind of state."""
    from kvlens.analysis.lens import kv_lens
    from kvlens.dimension.estimation import estimate
    from kvlens.embedding.encoder import Encoder
    from kvlens.plots.profile import plot_profile
    from kvlens.plots.saving import save_lens_plots
    from kvlens.plots.style import save_figures
    from kvlens.tracing.kinds import KEEP
    from kvlens.tracing.recording import record

    encoder = Encoder(
        lm,
        "kv_embedding",
        layers,
        max_length=limits.max_length,
        force=force,
    )
    prompt = encoder.method.document
    if trace is not None:
        check_made_of(trace, lm, texts, prompt)
    else:
        with progress("recording") as bar:
            trace = record(lm, texts, prompt, progress=bar, **asdict(limits))
    with progress("embedding") as bar:
        found = kv_lens(trace, cache.encode(encoder, texts.items, progress=bar))
    found.save(folder / "kv_lens.json")
    save_lens_plots(found, None, folder)
    profiles = [estimate(trace, states, ("twonn",)) for states in KEEP if trace.holds(states)]
    for profile in profiles:
        profile.save(folder / f"id_{profile.states}.json")
    figure = plot_profile(profiles, relative_depth=False, width=6.9).figure
    save_figures({"id": figure}, folder)


def _write_geometry(
    lm: LanguageModel,
    texts: Texts,
    pairs: list[tuple[str, str]],
    looked: Looked,
    layers: Any,
    force: bool,
    cache: EmbeddingCache,
    folder: Path,
) -> Geometry:
    """Write the geometry of each method's vectors."""
    from kvlens.analysis.method_geometry import METHODS, measure
    from kvlens.plots.saving import save_lens_plots

    few = replace(texts, items=texts.items[: looked.n_geometry], ids=None)
    with progress("embedding by method") as bar:
        geometry = measure(
            lm,
            layers,
            looked.methods or METHODS,
            texts=few,
            pairs=pairs,
            pairs_source=looked.pairs_source,
            cache=cache,
            force=force,
            progress=bar,
        )
    geometry.save(folder / "geometry.json")
    save_lens_plots(None, geometry, folder)
    return geometry


def _lines(geometry: Geometry) -> Iterator[str]:
    for row in geometry.methods:
        facts = [
            f"mean cosine {row.mean_cosine:.2f}",
            f"eigenvalue entropy {row.eigenvalue_entropy_ratio:.2f}",
            f"uniformity {row.uniformity:.2f}",
        ]
        if row.alignment is not None:
            facts.append(f"alignment {row.alignment:.2f}")
        yield f"{row.label:30} {', '.join(facts)}"
