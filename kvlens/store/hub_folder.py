"""Hub folder: files of kvlens under the name of a repository, fetched from the hub and put there.

It knows names, commits and refusals, and not what is in the files. Fetched are files that it is
asked for by name, JSON and safetensors; nothing that runs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.store.arguments import shown
from kvlens.store.errors import InputError, one_line

PREFIX = "hf://"
NAME = re.compile(r"(?:hf://)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT = 10  # seconds until the hub has answered
FETCHED = (".json", ".safetensors")


@dataclass(frozen=True)
class HubName:
    """The name of a repository: ``hf://org/name``, ``hf://org/name@revision``.

    Attributes:
        repo: such as ``org/name``.
        revision: branch, tag or commit; None: the main branch.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> HubName:
        """Read a name.

        Args:
            text: with or without ``hf://``, with or without ``@revision``.
            revision: in place of one in the text.

        Returns:
            The name.

        Raises:
            InputError: for any other text, and two revisions.
        """
        match = NAME.fullmatch(text)
        if match is None:
            raise InputError(f"{shown(text)} is no name at the hub: give hf://ORG/NAME[@REVISION]")
        if revision is not None and match["revision"] is not None:
            raise InputError(f"{text} names a revision: leave out `revision`, or the one behind @")
        return cls(match["repo"], revision or match["revision"])

    def at(self, commit: str) -> HubName:
        """The same repository at a commit."""
        return HubName(self.repo, commit)

    @property
    def is_pinned(self) -> bool:
        """Whether it names a commit, whose content never changes."""
        return COMMIT.fullmatch(self.revision or "") is not None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def fetch(name: HubName, main: str, beside: Sequence[str]) -> Path:
    """A folder of the hub's cache with files of a repository; asked for again, they are there.

    Args:
        name: of the repository.
        main: the file that has to be there, or nothing is fetched.
        beside: patterns of other files that are wanted.

    Returns:
        The folder, see `commit_of`; what is in it is to be left as it is.

    Raises:
        InputError: where the hub cannot be reached, or has no such repository, revision or file.
    """
    wanted = [pattern for pattern in (main, *beside) if Path(pattern).suffix in FETCHED]
    cached = _cached(name, main, wanted)
    if cached is not None and name.is_pinned:
        return cached
    try:
        commit = _commit_at_hub(name, main)
    except _Unreachable as error:
        if cached is not None:
            return cached
        raise InputError(
            f"{name} is not in the local hub cache and the hub cannot be reached: on a machine "
            f"with network run `hf download {name.repo}` and copy its folder here"
        ) from error
    return _cached(name.at(commit), main, wanted) or _downloaded(name.at(commit), main, wanted)


def _cached(name: HubName, main: str, wanted: Sequence[str]) -> Path | None:
    """The folder of the hub's cache, where all that is wanted is in it."""
    from huggingface_hub import snapshot_download

    here: Any = {"allow_patterns": list(wanted), "local_files_only": True}
    try:
        folder = Path(snapshot_download(name.repo, revision=name.revision, **here))
    except (OSError, ValueError):  # not there, or not whole
        return None
    return folder if (folder / main).is_file() else None


def _commit_at_hub(name: HubName, main: str) -> str:
    """The commit that a name means now; raises InputError where it has no `main`."""
    from huggingface_hub import HfApi

    with _refusals(name):
        # It answers at once where there is no network; a download would try again and again.
        content = HfApi().model_info(name.repo, revision=name.revision, timeout=TIMEOUT)
    if main not in [file.rfilename for file in content.siblings or ()] or content.sha is None:
        raise InputError(f"{name} has no {main} at the hub: it is no folder of kvlens")
    return content.sha


def _downloaded(name: HubName, main: str, wanted: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from tqdm.auto import tqdm

    class Silent(tqdm):
        """Two small files need no bar."""

        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, **{**options, "disable": True})

    options: Any = {"allow_patterns": list(wanted), "etag_timeout": TIMEOUT, "tqdm_class": Silent}
    with _refusals(name):
        return Path(snapshot_download(name.repo, revision=name.revision, **options))


def commit_of(folder: Path) -> str:
    """The commit of a folder of `fetch`."""
    return folder.name


def is_fetched(folder: Path) -> bool:
    """Whether a folder is one of the hub's cache."""
    return folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name) is not None


def upload(folder: Path, name: HubName, private: bool = False) -> str:
    """Put the files of a folder into a repository, which is made where there is none.

    Args:
        folder: whose files go there; others of the repository stay.
        name: of the repository, perhaps with a branch.
        private: whether a new repository is.

    Returns:
        The commit.

    Raises:
        InputError: where the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="kvlens")
    with _refusals(name):
        api.create_repo(name.repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name.repo,
            folder_path=folder,
            revision=name.revision,
            commit_message="Layer set, by kvlens",
        )
    return commit.oid


class _Unreachable(InputError):
    """The hub cannot be reached."""


@contextlib.contextmanager
def _refusals(name: HubName) -> Iterator[None]:
    """Within it, what the hub refuses is one line of ours."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"{name.repo} has no revision {shown(name.revision)} at the hub"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"the hub has no {name.repo}, or shows it only to those who log in (`hf auth login`)"
        ) from error
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise InputError(f"the hub refuses {name}: {one_line(error)}") from error
    except Exception as error:  # the HTTP clients' connection errors share no base
        raise _Unreachable(f"the hub cannot be reached for {name}: {one_line(error)}") from error
