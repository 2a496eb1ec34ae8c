"""Asks the hub about a repository, and commits to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from alignzoo.system.console import escape_bars
from alignzoo.system.errors import UserError
from alignzoo.system.hub import explain_refusal

#: Files of a model that was published before, which would be read beside the new one's.
STALE = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json")


@dataclass(frozen=True)
class Repository:
    """A model repository of the hub, as it was when it was asked."""

    name: str
    """OWNER/NAME."""

    url: str
    user: str
    """Who is logged in."""

    head: str | None
    """The newest commit; None where the repository is not there."""

    is_private: bool
    files: tuple[str, ...]

    @classmethod
    def ask(cls, name: str) -> Repository:
        """Ask the hub for the repository ``name``.

        Raises:
            UserError: it is not OWNER/NAME, nobody is logged in, or the hub cannot be reached.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
        from huggingface_hub.utils import validate_repo_id

        escape_bars()
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise UserError(f"{name} is not a name of the hub: {str(error).partition(': ')[0]}") from None
        if "/" not in name:
            raise UserError(f"{name} has no owner: write OWNER/{name}.")
        api = HfApi()
        with _explained(name):
            user = str(api.whoami()["name"])
            try:
                found: Any = api.model_info(name)
            except RepositoryNotFoundError:
                return cls(name, f"{api.endpoint}/{name}", user, None, True, ())
        files = tuple(sibling.rfilename for sibling in found.siblings or ())
        return cls(name, f"{api.endpoint}/{name}", user, found.sha, bool(found.private), files)

    def list_stale(self, files: Mapping[str, Path | bytes]) -> list[str]:
        """Return the weights and configurations that are there, and not among the new ``files``."""
        return [name for name in self.files if name not in files and any(fnmatch(name, stale) for stale in STALE)]

    def commit(self, files: Mapping[str, Path | bytes], message: str, private: bool) -> str:
        """Make the repository if it is not there, commit ``files`` in one piece, and return the commit.

        Raises:
            UserError: the hub refuses it, cannot be reached, or somebody has changed the repository meanwhile.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api = HfApi()
        changes = [CommitOperationAdd(name, content) for name, content in files.items()]
        stale = [CommitOperationDelete(name) for name in self.list_stale(files)]
        with _explained(self.name):
            if self.head is None:
                api.create_repo(self.name, private=private)
            done = api.create_commit(self.name, [*changes, *stale], commit_message=message, parent_commit=self.head)
        return str(done.oid)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Raise a :class:`UserError` in place of what the hub's client raises, which are a dozen kinds."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{name} cannot be published: {explain_refusal(error)}") from error
