"""Spec: a method with its settings in one line of text, and the label that a table shows for it.

Knows the grammar ``NAME:key=value:key=value`` and nothing of what a setting means, but for prompts
and layers, which have names and short forms of their own.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, Unpack

from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import parse_layers
from kvlens.texts.prompts import get_prompt

if TYPE_CHECKING:
    from kvlens.embedding.encoder import Encoder
    from kvlens.layers.route import RouteLike
    from kvlens.models.chat_prompt import ChatOptions
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.limits import Limits

REFERENCE = "kv_embedding"  # what every other method is compared with
NO_REROUTING = f"{REFERENCE}:layers=none"  # its prompt and pooling alone
ALL = "all"


@dataclass(frozen=True)
class Setting:
    """One setting of a method, as it was typed and as the method takes it.

    Attributes:
        name: of the setting.
        text: as typed.
        value: a Prompt for ``query`` and ``document``, block indices for ``layers``, else what the
            text is as JSON, else the text.
    """

    name: str
    text: str
    value: Any = field(compare=False, repr=False)

    @classmethod
    def parse(cls, name: str, text: str) -> Self:
        """A setting out of its name and text; raises InputError for a wrong prompt or layers."""
        return cls(name, text, _value(name, text))

    @property
    def words(self) -> str:
        """As a label shows it: ``bias 3``, ``no re-routing``."""
        switched_off = (self.name, self.text) == ("layers", "none")
        return "no re-routing" if switched_off else f"{self.name} {self.text}"


def _value(name: str, text: str) -> Any:
    if name in ("query", "document"):
        return get_prompt(text)
    if name == "layers":
        return _layers(text)
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _layers(text: str) -> tuple[int, ...]:
    try:
        return parse_layers(text)
    except InputError:
        message = f"layers={text}: give none, or layers such as 7-10 or 7+9"
        raise InputError(message) from None


@dataclass(frozen=True)
class MethodSpec:
    """A method, its settings, and what is done to its vectors: one row of a table.

    Attributes:
        method: the name, see `kvlens.methods`.
        settings: those that differ from the method's own.
        post: the kind of post-processing, or None.
    """

    method: str
    settings: tuple[Setting, ...] = ()
    post: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a specification.

        Args:
            text: a name and settings after colons, such as ``kv_embedding:layers=7-10:bias=3``,
                ``kv_embedding:layers=none`` (no re-routing) or ``mean:document=kv-document``.

        Returns:
            The specification, without post-processing.

        Raises:
            InputError: for a setting without ``=``, an unknown prompt, and what are no layers.
                Whether the method exists and has such settings is seen by `encoder`.
        """
        # A colon inside a value, as in JSON, stands before no name and equals sign.
        method, *pairs = re.split(r":(?=\w+(?:=|:|$))", text.strip())
        settings: list[Setting] = []
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:
                message = f"cannot read {text!r}: settings are written as in {NO_REROUTING}"
                raise InputError(message)
            settings.append(Setting.parse(name, value))
        return cls(method, tuple(settings))

    def with_post(self, kind: str | None) -> Self:
        """The same method with this post-processing."""
        return replace(self, post=kind)

    @property
    def text(self) -> str:
        """As `parse` reads it, without the post-processing."""
        pairs = [f"{setting.name}={setting.text}" for setting in self.settings]
        return ":".join([self.method, *pairs])

    @property
    def method_label(self) -> str:
        """What a table shows without the post-processing: ``kv_embedding (no re-routing)``."""
        words = ", ".join(setting.words for setting in self.settings)
        return f"{self.method} ({words})" if words else self.method

    @property
    def label(self) -> str:
        """What a table shows: ``kv_embedding (no re-routing) + zscore``."""
        return f"{self.method_label} + {self.post}" if self.post else self.method_label

    def encoder(
        self,
        lm: LanguageModel,
        layers: RouteLike | None = None,
        limits: Limits | None = None,
        force: bool = False,
        **chat: Unpack[ChatOptions],
    ) -> Encoder:
        """The encoder of this method, its vectors not yet post-processed.

        Args:
            lm: the model.
            layers: for methods that take layers. Layers among the settings go before these; what
                else a layer set brings along stays.
            limits: how long a text may be, how much goes into a batch; default `Encoder`'s own.
            force: use a layer set that was made for another model.
            **chat: see `ChatOptions`.

        Returns:
            An encoder without post-processing.

        Raises:
            InputError: as `Encoder`.
        """
        # Here, since a label needs no torch.
        from kvlens.embedding.configure import settings_from
        from kvlens.embedding.encoder import Encoder
        from kvlens.methods.registry import get_method, takes_layers

        settings = {setting.name: setting.value for setting in self.settings}
        typed_layers = settings.pop("layers", None)
        options: dict[str, Any] = {"force": force, **chat}
        if limits is not None:
            options.update(asdict(limits))
        if not takes_layers(self.method):
            layers = None
        if typed_layers is None or layers is None:
            route = layers if typed_layers is None else typed_layers
            return Encoder(lm, self.method, route, **options, **settings)
        brought = _moved(settings_from(layers, lm.info, force), typed_layers)
        return Encoder(lm, get_method(self.method, **{**brought, **settings}), **options)


def _moved(settings: Mapping[str, Any], layers: tuple[int, ...]) -> dict[str, Any]:
    """What a layer set brings along, on other layers."""
    moved = {**settings, "layers": layers}
    if not layers and isinstance(moved.get("bias"), tuple):
        del moved["bias"]  # one for each layer of the set, and now there are none
    return moved


def parse_specs(texts: Iterable[str]) -> list[MethodSpec]:
    """Specifications in their order, each once.

    ``all`` is every method that needs no calibration states, and no re-routing.
    """
    from kvlens.methods.registry import self_contained  # here, since a label needs no torch

    specs: list[MethodSpec] = []
    for text in texts:
        names = [*self_contained(), NO_REROUTING] if text == ALL else [text]
        specs.extend(MethodSpec.parse(name) for name in names)
    return list(dict.fromkeys(specs))
