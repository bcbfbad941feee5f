"""KV lens: what the final token's keys, values and hidden states hold, layer by layer.

Singular values of a corpus' centred K and V: how far do they compress? (LoRC, arXiv:2410.03111,
truncates the key and value WEIGHTS; the STATES may use fewer directions.) Their similarity to the
final embedding, beside that by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from kvlens.analysis.geometry import as_points
from kvlens.analysis.similarity import FEWEST_ROWS
from kvlens.analysis.spectra import Spectrum, is_constant, state_spectra
from kvlens.analysis.state_similarity import DRAWS, Comparison, Similarity
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact
from kvlens.store.bounds import Count
from kvlens.store.checking import a, arguments, names, whole
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, picture_of
from kvlens.store.layer_ranges import phrase
from kvlens.store.provenance import versions
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo
from kvlens.tracing.trace import Trace


class KVLens(JsonArtifact):
    """Spectra and similarities by kind and layer, with what they were made from; one JSON file.

    Attributes:
        model: whose states they are.
        points: which hidden states (K and V: always the final token's).
        prompt: around every text.
        texts: where the texts come from.
        spectra: of K and V.
        similarities: of all kinds; empty without embeddings.
        skipped: states that are the same for every text.
        embeddings: sha256 of their float64 bytes, or None.
        dropped: texts left out of the similarities since their embedding repeats another's.
        draws: permutations behind each control.
        seed: of permutations and folds.
        versions: package -> version.
    """

    what: ClassVar[str] = "a KV lens"
    again: ClassVar[str] = "compute the lens again"
    format: Literal["kvlens.kv-lens"] = "kvlens.kv-lens"
    version: Literal[1] = 1
    model: ModelInfo
    points: str
    prompt: Prompt
    texts: TextsInfo
    spectra: tuple[Spectrum, ...]
    similarities: tuple[Similarity, ...]
    skipped: tuple[str, ...]
    embeddings: str | None
    dropped: Count
    draws: Count
    seed: int
    versions: dict[str, str]

    def _repr_html_(self) -> str:
        layers = sorted({each.layer for each in self.spectra})
        facts = {
            "layers": phrase(layers),
            "states": f"K and V of the final token of {self.texts.n} texts",
            "prompt": self.prompt.name,
            "similarities": len(self.similarities) or "none: no embeddings were given",
        }
        skipped = [f"{states}: the same for every text" for states in self.skipped]
        picture = picture_of(self, "effective rank of K and V by layer")
        return facts_html(f"KV lens: {self.model.name}", facts, skipped, picture)

    @model_validator(mode="after")
    def _consistent(self) -> KVLens:
        for similarity in self.similarities:
            self.model.check_layers([similarity.layer])
        widths = {(each.kind, each.layer): each.d for each in self.spectra if each.head is None}
        for spectrum in self.spectra:
            self.model.check_layers([spectrum.layer])
            # Layers may differ in their heads: each is inside the width of all of its layer.
            width = widths.get((spectrum.kind, spectrum.layer), 0)
            if spectrum.head is not None and (spectrum.head + 1) * spectrum.d > width:
                raise ValueError(f"layer {spectrum.layer} has no KV head {spectrum.head}")
        return self

    def spectra_of(self, kind: str, head: int | None = None) -> tuple[Spectrum, ...]:
        """One kind's spectra, layers ascending, of one KV head or (None) of all heads together."""
        return tuple(each for each in self.spectra if (each.kind, each.head) == (kind, head))

    def similarities_of(self, kind: str, measure: str = "cka") -> tuple[Similarity, ...]:
        """One kind's similarities by one measure, layers ascending."""
        wanted = (kind, measure)
        return tuple(each for each in self.similarities if (each.kind, each.measure) == wanted)


@arguments(trace=a(Trace, "a trace of `kvlens.record`"), seed=whole(least=0), probe=names)
def kv_lens(
    trace: Trace, embeddings: Any = None, seed: int = 0, probe: Sequence[str] = ("v",)
) -> KVLens:
    """Look into every recorded layer; float64 inside.

    Args:
        trace: of at least 20 texts, with K or V.
        embeddings: ``[n, d]``, row i of text i, which the states are compared with; without them
            there are spectra only.
        seed: of permutations and folds.
        probe: the kinds that get a ridge probe.

    Returns:
        The lens.

    Raises:
        InputError: for a trace without K and V, embeddings that do not match it row by row, fewer
            than 20 texts (or distinct embeddings), and an unknown probe.
    """
    kinds = _kinds(trace, with_hidden=embeddings is not None)
    comparison = None
    if embeddings is not None:
        comparison = _comparison(trace, kinds, embeddings, seed, probe)
    spectra: list[Spectrum] = []
    similarities: list[Similarity] = []
    skipped: list[str] = []
    for layer in trace.layers:
        for kind in kinds:
            if layer not in trace.layers_of(kind):
                continue
            name = f"{kind} states of layer {layer}"
            states = as_points(trace.states(layer, kind), FEWEST_ROWS, name)
            if is_constant(states):
                skipped.append(f"{kind} of layer {layer}")
                continue
            if kind != "hidden":
                spectra += state_spectra(kind, layer, states, trace.heads(layer, kind))
            if comparison is not None:
                similarities += comparison.similarities(kind, layer, states)
    return KVLens(
        model=trace.model,
        points=trace.points,
        prompt=trace.prompt,
        texts=trace.texts,
        spectra=tuple(spectra),
        similarities=tuple(similarities),
        skipped=tuple(skipped),
        embeddings=comparison.sha256 if comparison else None,
        dropped=comparison.dropped if comparison else 0,
        draws=DRAWS,
        seed=seed,
        versions=versions(trace.versions),
    )


def _kinds(trace: Trace, with_hidden: bool) -> list[str]:
    """The kinds of states to look into."""
    kinds: list[str] = [kind for kind in ("k", "k_pre", "v") if trace.holds(kind)]
    if not kinds:
        raise InputError("this trace holds neither keys nor values: record it with keep=('k', 'v')")
    if not trace.key_layers:
        raise InputError("no recorded layer has keys and values: record others too")
    if with_hidden and trace.holds("hidden"):
        kinds.append("hidden")
    return kinds


def _comparison(
    trace: Trace, kinds: Sequence[str], embeddings: Any, seed: int, probe: Sequence[str]
) -> Comparison:
    """The comparison with one embedding for each state, and states for each probe."""
    points = as_points(embeddings, FEWEST_ROWS, "`embeddings`")
    counts = {len(trace.states(trace.layers_of(kind)[0], kind)) for kind in kinds}
    if counts != {len(points)}:
        raise InputError(
            f"{len(points)} embeddings, {max(counts)} states: "
            "embed the texts of a points='last' trace"
        )
    unknown = sorted(set(probe) - set(kinds))
    if unknown:
        raise InputError(f"cannot probe {', '.join(unknown)}: this trace holds {', '.join(kinds)}")
    return Comparison.of(points, probe, seed)
