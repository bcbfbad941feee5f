"""Hub: a model's config, from the local cache or else from the hub."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.models.catalog import NAMED
from kvlens.models.checkpoint import CONFIG
from kvlens.models.foreign import ADAPTER
from kvlens.models.locating import KINDS_OF_NAMES
from kvlens.store.errors import InputError, one_line

TIMEOUT = 10  # seconds


@dataclass(frozen=True)
class FetchedConfig:
    """A config of transformers.

    Attributes:
        config: the config.
        is_local: whether its files, and so the weights', are on this machine.
    """

    config: Any
    is_local: bool


def fetch_config(source: str, name: str, options: dict[str, Any]) -> FetchedConfig:
    """A model's config, from local files where they are there.

    Args:
        source: a folder or a hub id.
        name: as the user gave it, for messages.
        options: `revision` and `trust_remote_code` of transformers.

    Returns:
        The config, and where it came from.

    Raises:
        InputError: when it cannot be had from the hub; what a damaged file raises is left to the
            caller.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, **options, local_files_only=True)
        return FetchedConfig(config, is_local=True)
    except (OSError, ValueError):
        if Path(source).is_dir():
            raise
    return FetchedConfig(_from_hub(source, name, options), is_local=False)


def refuse_adapter(files: Iterable[str], what: str) -> None:
    """Refuse a repository with an adapter: transformers would load the model that it names.

    Args:
        files: of the repository.
        what: it is called, for the message.

    Raises:
        InputError: when an adapter's config is among them.
    """
    if ADAPTER in files:
        raise InputError(
            f"{what} has an adapter ({ADAPTER}): load it with peft, and give kvlens the model "
            "(`kvlens.load(model=..., tokenizer=...)`)"
        )


def cached_folder(source: str, revision: str | None) -> Path | None:
    """Where the hub's cache holds a model.

    Args:
        source: a hub id.
        revision: branch, tag or commit; default the main branch.

    Returns:
        The folder of the snapshot; None when it is not there.
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(source, CONFIG, revision=revision)
    except (ValueError, OSError):  # no name that a repository can have
        return None
    return Path(config).parent if isinstance(config, str) else None


def cached_commit(source: str, revision: str | None) -> str | None:
    """The commit that the hub's cache holds; transformers 5.23 no longer tells it.

    Args:
        source: a hub id.
        revision: branch, tag or commit; default the main branch.

    Returns:
        Its hash; None when it is not there.
    """
    folder = cached_folder(source, revision)
    return folder.name if folder else None


def _from_hub(source: str, name: str, options: dict[str, Any]) -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from transformers import AutoConfig

    try:
        # It answers at once when offline, where transformers would try again and again.
        content = HfApi().model_info(source, revision=options["revision"], timeout=TIMEOUT)
        refuse_adapter((file.rfilename for file in content.siblings or ()), name)
        return AutoConfig.from_pretrained(source, **options)
    except InputError:
        raise
    except HfHubHTTPError as error:
        raise InputError(
            f"the hub refuses {name!r} ({one_line(error)}): {KINDS_OF_NAMES}"
        ) from error
    except Exception as error:  # the HTTP clients' connection errors share no base
        raise InputError(
            f"{name} is not in the local hub cache and the hub cannot be reached: "
            f"on a machine with network run `hf download {name}` and copy its folder here, "
            f"or use {' / '.join(NAMED)}"
        ) from error
