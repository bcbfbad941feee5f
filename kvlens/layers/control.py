"""Control: whom a re-routed prefix reaches and what it carries; the default is the paper's own."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, Self, TypedDict, get_args

from pydantic import Field, ValidationError, model_validator

from kvlens.models.info import ModelInfo
from kvlens.store.arguments import choice_argument, list_argument, refusal, shown, whole_number
from kvlens.store.artifact import Record
from kvlens.store.bounds import within
from kvlens.store.errors import InputError

Queries = Literal["all", "text", "prompt", "shielded"]
"""Which tokens see the prefix: all; those of the text; all others; all but position 0."""

Source = Literal["final", "text", "mean", "probe"] | int
"""Whose key and value it is: the final token's; the text's last token's, without the prompt; the
mean over all real tokens; those of the tokens that a probe query ranks highest, a column each; or
those of a token by its place, counted from the end below zero."""

Carried = Literal["own", "zero", "mean", "other"]
"""What stands for a key or a value: what the source has; zeros; the mean over calibration texts;
or what one of these texts has, which a hash chooses."""

OfHeads = Carried | dict[int, Carried | tuple[Carried, ...]]
"""One for all layers; or by layer, one for all its KV heads or one each. Layers left out: own."""

NAMED_SOURCES = ("final", "text", "mean", "probe")
MOST_COLUMNS = 64  # a prefix, and no second text


class Control(Record):
    """What differs from the paper's prefix, which is the final token's own, seen by every query.

    Attributes:
        heads: layer -> the query heads that see the prefix; a layer left out: all of them.
        queries: which tokens see it.
        source: whose key and value it is.
        key: what stands for the source's key, see `OfHeads`.
        value: the same for the value.
        seed: of the choice of another text.
        calibration: sha256 of the file that ``mean`` and ``other`` come from; empty: none.
        columns: how many tokens source ``probe`` takes, each a column with the bias of its own.
    """

    heads: dict[int, tuple[int, ...]] = Field(default_factory=dict)
    queries: Queries = "all"
    source: Source = "final"
    key: OfHeads = "own"
    value: OfHeads = "own"
    seed: int = 0
    calibration: str = ""
    columns: Annotated[int, within(1, MOST_COLUMNS)] = Field(
        default=1, exclude_if=lambda columns: columns == 1
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.columns > 1 and self.source != "probe":
            raise ValueError("several columns are for source probe")
        if self.needs_calibration and not self.calibration:
            raise ValueError("mean and other keys or values need calibration states")
        return self

    @property
    def needs_calibration(self) -> bool:
        """Whether keys or values of calibration texts are carried."""
        return bool({"mean", "other"} & {*_names(self.key), *_names(self.value)})

    @property
    def needs_text(self) -> bool:
        """Whether it has to be known which tokens are the text's own."""
        return self.queries in ("text", "prompt") or self.source == "text"

    @property
    def shields_sink(self) -> bool:
        """Whether the prefix is hidden from position 0, where attention sinks."""
        return self.queries == "shielded"

    @property
    def source_words(self) -> str:
        """Whose key and value it is, where it is not the paper's; else empty."""
        if self.source == "final":
            return ""
        columns = f", {self.columns} columns" if self.columns > 1 else ""
        return f"source {self.source}{columns}"

    @property
    def changes(self) -> dict[str, Any]:
        """What differs from the default."""
        return self.model_dump(exclude_defaults=True)

    def carried(self, what: str, layer: int, n_kv_heads: int) -> tuple[Carried, ...]:
        """What each KV head of a layer carries.

        Args:
            what: ``key`` or ``value``.
            layer: block index.
            n_kv_heads: how many it has.

        Returns:
            One name a head.
        """
        given: OfHeads = self.key if what == "key" else self.value
        of_layer = given.get(layer, "own") if isinstance(given, dict) else given
        return of_layer if isinstance(of_layer, tuple) else (of_layer,) * n_kv_heads


def _names(given: OfHeads) -> Iterable[Carried]:
    if not isinstance(given, dict):
        return (given,)
    return (
        name
        for of_layer in given.values()
        for name in (of_layer if isinstance(of_layer, tuple) else (of_layer,))
    )


PAPER = Control()
"""The paper's prefix."""


class OtherStates(Protocol):
    """Keys and values of other texts, whatever holds them."""

    @property
    def sha256(self) -> str:
        """Of their file."""

    def check_serves(self, model: ModelInfo, layers: Sequence[int]) -> None:
        """Raise InputError unless they are of this model and have these layers."""


class ControlOptions(TypedDict, total=False):
    """The keywords by which functions change the prefix.

    Attributes:
        heads: query heads that see it: a list for all layers, or layer -> list.
        queries: ``all`` tokens see it, those of the ``text``, of the ``prompt``, or all but
            position 0 (``shielded``).
        source: whose key and value: the ``final`` token's, the ``text``'s last token's, the
            ``mean`` over real tokens, those of the tokens that a ``probe`` query ranks highest (see
            `kvlens.rerouting.probe_query`), or of the token at an index (below 0: from the end).
        key: ``own``, ``zero``, ``mean`` or ``other``: for all layers, or layer -> one for all KV
            heads or a list of one each. ``mean`` and ``other`` are of calibration texts.
        value: the same.
        seed: of the choice of another text.
        calibration: what ``mean`` and ``other`` come from, see `kvlens.calibration`.
        columns: how many tokens source ``probe`` takes, each a column with the bias of its own.
    """

    heads: Sequence[int] | Mapping[int, Sequence[int]] | None
    queries: str
    source: str | int
    key: str | Mapping[int, str | Sequence[str]]
    value: str | Mapping[int, str | Sequence[str]]
    seed: int
    calibration: Any
    columns: int


OPTIONS: tuple[str, ...] = tuple(Control.model_fields)


def control_of(
    model: ModelInfo,
    layers: Sequence[int],
    before: Control,
    known: OtherStates | None,
    options: Mapping[str, Any],
) -> tuple[Control, OtherStates | None]:
    """A control that fits a model's layers, from another one and what users give.

    Args:
        model: what is re-routed.
        layers: block indices of the route; options for other layers are refused.
        before: of a route or a layer set.
        known: its calibration.
        options: `ControlOptions`, which go before.

    Returns:
        The control, and the calibration that it needs.

    Raises:
        InputError: for an option that is no such value, layers that are not re-routed, calibration
            states of another model or trace, and none where they are needed.
    """
    given = {name: _plain(name, value, layers) for name, value in options.items()}
    offered = given.pop("calibration", None)
    calibration = known if offered is None else _other_states(offered)
    fields = {**before.model_dump(), **given}
    if calibration is not None:
        fields["calibration"] = calibration.sha256
    if fields.get("columns", 1) > 1 and fields["source"] != "probe":
        raise InputError("`columns` are for source 'probe': any other source is one column")
    try:
        control = Control(**fields)
    except ValidationError:
        raise InputError(
            "keys and values of other texts (`mean`, `other`) need `calibration`: a trace with "
            "k_pre and v, or its file"
        ) from None
    if not control.needs_calibration:
        return control.model_copy(update={"calibration": ""}), None
    wanted = before.calibration or control.calibration
    if calibration is None or calibration.sha256 != wanted:
        raise InputError(
            f"the route carries keys or values of the calibration file with sha256 "
            f"{wanted[:16]}: give that file by `calibration`"
        )
    calibration.check_serves(model, layers)
    return control, calibration


def _other_states(offered: Any) -> OtherStates:
    if not hasattr(offered, "check_serves"):
        raise refusal("calibration", offered, "what `kvlens.calibration` gives")
    return offered


def _plain(name: str, value: Any, layers: Sequence[int]) -> Any:
    """One option in the form in which it is recorded."""
    if name == "heads":
        return _heads(value, layers)
    if name == "queries":
        return choice_argument(name, value, get_args(Queries))
    if name == "source":
        return _source(value)
    if name == "seed":
        return whole_number(name, value, least=0)
    if name == "columns":
        return whole_number(name, value, least=1, most=MOST_COLUMNS)
    if name in ("key", "value"):
        return _of_heads(name, value, layers)
    return value


def _heads(value: Any, layers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {
            _layer("heads", layer, layers): _distinct(heads)
            for layer, heads in _by_layer("heads", value).items()
        }
    return dict.fromkeys(sorted(layers), _distinct(value))


def _distinct(heads: Any) -> tuple[int, ...]:
    listed = list_argument("heads", heads, "query heads")
    return tuple(sorted({whole_number("heads", head, least=0) for head in listed}))


def _source(value: Any) -> str | int:
    if isinstance(value, str):
        return choice_argument("source", value, NAMED_SOURCES)
    try:
        return whole_number("source", value)
    except InputError:
        wanted = f"the index of a token, or one of {', '.join(NAMED_SOURCES)}"
        raise refusal("source", value, wanted) from None


def _of_heads(name: str, value: Any, layers: Sequence[int]) -> Any:
    names = get_args(Carried)
    if not isinstance(value, Mapping):
        return choice_argument(name, value, names)
    return {
        _layer(name, layer, layers): (
            choice_argument(name, given, names)
            if isinstance(given, str)
            else tuple(
                choice_argument(name, each, names) for each in list_argument(name, given, "names")
            )
        )
        for layer, given in _by_layer(name, value).items()
    }


def _by_layer(name: str, given: Mapping[Any, Any]) -> dict[int, Any]:
    """By block index, ascending; JSON writes the layers as texts."""
    try:
        layers = {
            int(layer) if isinstance(layer, str) else operator.index(layer): value
            for layer, value in given.items()
        }
    except (TypeError, ValueError):
        raise InputError(f"`{name}` is {shown(given)}: its keys have to be block indices") from None
    return dict(sorted(layers.items()))


def _layer(name: str, layer: int, layers: Sequence[int]) -> int:
    if layer not in layers:
        raise InputError(f"`{name}` names layer {layer}, which is not re-routed")
    return layer
