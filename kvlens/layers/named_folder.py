"""Named folder: a layer set is had by name and given one, as libraries of the hub do it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

from kvlens.layers.folder import LAYERS_FILE, fetched_file, push, write_folder
from kvlens.store.checking import arguments, flag, members, optional, path, path_text, text
from kvlens.store.errors import InputError
from kvlens.store.hub_folder import HubName, commit_of


class NamedFolder:
    """The part of `LayerSet` that reads and writes folders with a card."""

    @classmethod
    def _loaded(cls, file: Path) -> Any:
        return cast(Any, cls).load(file)

    @classmethod
    @arguments(name=path_text, revision=optional(text))
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> Self:
        """A layer set by its name.

        Args:
            name: a folder of `save_pretrained` or of `kvlens profile`, a layer-set file, or a
                repository of the hub: ``org/name``, ``hf://org/name@revision``.
            revision: branch, tag or commit of the hub.

        Returns:
            The layer set; one of the hub says its commit in `origin`.

        Raises:
            InputError: where there is none, and for a revision of what is here.
        """
        here = Path(name)
        if here.exists():
            if revision is not None:
                raise InputError(f"{name} is on this machine: leave out `revision`")
            return cls._loaded(here / LAYERS_FILE if here.is_dir() else here)
        hub = HubName.parse(str(name), revision)
        file = fetched_file(hub)
        origin = str(hub.at(commit_of(file.parent)))
        return cls._loaded(file).model_copy(update={"origin": origin})

    @arguments(folder=path, files=members(path, "paths"))
    def save_pretrained(self, folder: str | Path, files: Sequence[str | Path] = ()) -> list[Path]:
        """Write a folder with a card: what `from_pretrained` reads, and what people read.

        Args:
            folder: made where it is missing; other files in it stay.
            files: that belong to it: ``post-*.safetensors`` of `Encoder.fit_post`,
                ``prefix.safetensors`` and ``trace.safetensors`` of `kvlens profile`.

        Returns:
            What was written: layers.json, profile.json, `files`, profile.png, README.md.

        Raises:
            InputError: for other files, calibration states that the layer set needs and that are
                not given, and a place that cannot be written.
        """
        return write_folder(cast(Any, self), Path(folder), [Path(file) for file in files])

    @arguments(name=text, files=members(path, "paths"), private=flag, revision=optional(text))
    def push_to_hub(
        self,
        name: str,
        files: Sequence[str | Path] = (),
        private: bool = False,
        revision: str | None = None,
    ) -> str:
        """Put the folder of `save_pretrained` into a repository of the hub.

        Args:
            name: ``org/name``; it is made where there is none. Whoever is logged in (`hf auth
                login`) has to be allowed to write there.
            files: as of `save_pretrained`.
            private: whether a new repository is.
            revision: the branch; default the main one.

        Returns:
            ``hf://org/name@commit``, by which anybody gets the very same.

        Raises:
            InputError: as `save_pretrained`, and where the hub cannot be reached or refuses.
        """
        hub = HubName.parse(name, revision)
        return str(push(cast(Any, self), hub, [Path(file) for file in files], private))
