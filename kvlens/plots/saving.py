"""Which pictures of a result are written to a folder, and under which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvlens.analysis.attention import KINDS, AttentionPatterns, AttentionShift
from kvlens.analysis.lens import KVLens
from kvlens.analysis.low_rank import LowRank
from kvlens.analysis.method_geometry import Geometry
from kvlens.analysis.word_lens import WordLens
from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.decimation import plot_decimation
from kvlens.plots.effects import plot_effects
from kvlens.plots.geometry import plot_geometry, plot_sentences
from kvlens.plots.low_rank import plot_low_rank
from kvlens.plots.own_words import has_heads, plot_own_words, plot_word_heads
from kvlens.plots.patterns import plot_patterns
from kvlens.plots.profile import plot_profile
from kvlens.plots.profile_page import profile_html
from kvlens.plots.profile_picture import LayerSets, Profiles
from kvlens.plots.states import plot_ranks, plot_similarities, plot_spectra
from kvlens.plots.style import save_figures
from kvlens.plots.uptake import plot_beta, plot_ends
from kvlens.plots.word_grid import plot_words
from kvlens.store.files import atomic_path
from kvlens.studies.effects import Effects

CARD_WIDTH = 6.9  # inches


def save_profile_plots(
    profiles: Profiles,
    layer_sets: LayerSets,
    folder: str | Path,
    stem: str = "layer_id",
    width: float = 5.0,
) -> list[Path]:
    """Write `plot_profile` as PNG and PDF (see `save_figures`), and `profile_html` as HTML.

    Of one profile with a decimation, `plot_decimation` beside it, as ``STEM_by_n``. The same input
    gives the same bytes. Each file is written atomically.

    Args:
        profiles: as of `plot_profile`.
        layer_sets: as of `plot_profile`.
        folder: where the files go; made when missing.
        stem: of the files' names.
        width: of the PNG and PDF, in inches.

    Returns:
        The paths, that of the HTML last.

    Raises:
        InputError: as `plot_profile`, and when the folder cannot be written.
    """
    page = profile_html(profiles, layer_sets)
    page.layout.height = None  # as high as the window
    ax = plot_profile(profiles, layer_sets, width=width)
    figures: dict[str, Any] = {stem: ax.figure}
    shown = [profiles] if isinstance(profiles, IDProfile) else list(profiles)
    if len(shown) == 1 and shown[0].decimation:
        figures[f"{stem}_by_n"] = plot_decimation(shown[0]).figure
    paths = save_figures(figures, folder)
    path = Path(folder) / f"{stem}.html"
    config = {"displaylogo": False, "showSendToCloud": False}
    with atomic_path(path) as temporary:
        page.write_html(temporary, config, div_id=stem, default_height="90vh")
    return [*paths, path]


def save_card_picture(layer_set: LayerSet, path: Path) -> None:
    """Write the profile that a layer set was chosen from, as one PNG.

    Args:
        layer_set: its layers are shaded.
        path: the PNG.

    Raises:
        InputError: the file cannot be written.
    """
    ax = plot_profile(layer_set.profile, layer_set, width=CARD_WIDTH)
    save_figures({path.stem: ax.figure}, path.parent, ("png",))


def save_attention_plots(
    result: AttentionShift | AttentionPatterns, folder: str | Path
) -> list[Path]:
    """Write every picture of a result, as `save_figures` does.

    Args:
        result: a shift (beta maps, both ends), or patterns (one picture a layer, mean over heads).
        folder: where the files go; made when missing.

    Returns:
        The paths.

    Raises:
        InputError: the folder cannot be written.
    """
    figures: dict[str, Any] = {}
    if isinstance(result, AttentionShift):
        for kind in KINDS:
            figures[f"beta_{kind}"] = plot_beta(result, kind).figure
        figures["beta_ends"] = plot_ends(result).figure
    else:
        for layer in result.layers:
            before, _ = plot_patterns(result, layer)
            figures[f"patterns_layer{layer}"] = before.figure
    return save_figures(figures, folder)


def save_lens_plots(
    lens: KVLens | None, geometry: Geometry | None, folder: str | Path
) -> list[Path]:
    """Write every picture of a KV lens and of a geometry, as `save_figures` does.

    Args:
        lens: its spectra, and its similarities where it has them.
        geometry: of the methods' embeddings.
        folder: where the files go; made when missing.

    Returns:
        The paths.

    Raises:
        InputError: the folder cannot be written.
    """
    pictures = {}
    if lens is not None:
        pictures["kv_ranks"] = plot_ranks(lens)
        pictures["kv_spectra"] = plot_spectra(lens)
        if lens.similarities:
            pictures["kv_similarity"] = plot_similarities(lens)
    if geometry is not None:
        pictures["geometry"] = plot_geometry(geometry)
        pictures["sentences"] = plot_sentences(geometry)
    return save_figures({name: axes[0].figure for name, axes in pictures.items()}, folder)


def save_word_plots(lens: WordLens, folder: str | Path) -> list[Path]:
    """Write every picture of a word lens, as `save_figures` does.

    Args:
        lens: what is drawn.
        folder: where the files go; made when missing.

    Returns:
        The paths.

    Raises:
        InputError: the folder cannot be written.
    """
    figures: dict[str, Any] = {"own_words": plot_own_words(lens)[0].figure}
    for text in range(len(lens.shown)):
        figures[f"words_{text + 1}"] = plot_words(lens, text)[0].figure
    if has_heads(lens):
        figures["word_heads"] = plot_word_heads(lens).figure
    return save_figures(figures, folder)


def save_low_rank_plot(low_rank: LowRank, folder: str | Path) -> list[Path]:
    """Write the picture of a low-rank lens, as `save_figures` does.

    Args:
        low_rank: what is drawn.
        folder: where the files go; made when missing.

    Returns:
        The paths.

    Raises:
        InputError: the folder cannot be written.
    """
    return save_figures({"low_rank": plot_low_rank(low_rank)[0].figure}, folder)


def save_effects_plot(effects: Effects, folder: str | Path) -> list[Path]:
    """Write the picture of effects, as `save_figures` does.

    Args:
        effects: what is drawn.
        folder: where the files go; made when missing.

    Returns:
        The paths.

    Raises:
        InputError: the folder cannot be written.
    """
    return save_figures({"effects": plot_effects(effects)[0].figure}, folder)
