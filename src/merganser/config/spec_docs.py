"""An entry of ``docs`` that is a map: a labelled folder, or a git repository at a ref."""

import os
from typing import Annotated, Any, Self

from pydantic import Discriminator, Tag, model_validator

from merganser.config.spec_base import Flag, StrictModel, Text, fault
from merganser.config.spec_models import is_environment_name
from merganser.documents.repositories import (
    SCHEMES,
    fault_of_label,
    fault_of_ref,
    fault_of_url,
    name_of_url,
)

_CLONE_KEYS = ("ref", "submodules", "token_key")


class RepositorySpec(StrictModel):
    """A folder whose files are shown below a label, or a git repository that is cloned."""

    path: Text | None = None
    """A folder, relative to the config."""

    git: Text | None = None
    """URL of a repository (https, ssh, http, git or file); it is cloned below `$MERGANSER_HOME`
    and brought up to date by each run."""

    label: Text | None = None
    """First part of the paths of its files, in hits, filters and citations; needed with `path`, the
    repository's name when left out with `git`."""

    ref: Text | None = None
    """Branch, tag or whole name of a commit; the default branch when left out."""

    paths: tuple[Text, ...] = ()
    """Files, folders, globs and `!patterns` in it; all of it when left out."""

    submodules: Flag = False
    """Bring the submodules of a clone too."""

    token_key: Text | None = None
    """Name of the environment variable with a token for the URL; it is sent by https alone."""

    @property
    def shown_label(self) -> str:
        """The label: as written, or the repository's name."""
        return self.label or name_of_url(self.git or "")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.path is None) == (self.git is None):
            raise fault(
                "needs either 'path' or 'git'",
                fix="write {path: ../api, label: api} or {git: https://host/owner/name.git}",
            )
        for key in _CLONE_KEYS if self.git is None else ():
            if key in self.model_fields_set:
                raise fault(f"{key!r} belongs to 'git'", fix="remove it", at=(key,))
        return self

    @model_validator(mode="after")
    def _label_is_one_part(self) -> Self:
        if self.label is None and self.git is None:
            raise fault(
                "a folder needs a label", fix="add 'label: ...', or write the path alone", at=()
            )
        if problem := fault_of_label(self.shown_label):
            raise fault(
                problem,
                fix="begin with a letter, digit or '_'; use up to 64 of these, '-' and '.'",
                at=("label",),
            )
        return self

    @model_validator(mode="after")
    def _folder_is_plain(self) -> Self:
        if self.path is not None and "://" in self.path:
            raise fault(f"{self.path!r} is no folder", fix="write it as 'git'", at=("path",))
        for number, path in enumerate(self.paths):
            plain = os.path.normpath(path.removeprefix("!"))
            if plain.startswith("/") or plain.split("/")[0] in {"..", "~"}:
                raise fault(
                    f"{path!r} leads out of {self.shown_label!r}",
                    fix="write paths and globs as they stand in the repository",
                    at=("paths", number),
                )
        if self.paths and all(path.startswith("!") for path in self.paths):
            raise fault("takes nothing in", fix="add '.', which is all of it", at=("paths",))
        return self

    @model_validator(mode="after")
    def _url_can_be_cloned(self) -> Self:
        if self.git is not None and (problem := fault_of_url(self.git)):
            secret = "password" in problem  # then the URL must not be shown
            raise fault(
                f"the URL {problem}" if secret else f"{self.git!r} {problem}",
                fix="name the variable that has it with 'token_key'"
                if secret
                else f"write a URL of {', '.join(SCHEMES)}, or a folder as 'path'",
                at=("git",),
            )
        if self.ref is not None and (problem := fault_of_ref(self.ref)):
            raise fault(
                problem, fix="write a branch, a tag or the 40 digits of a commit", at=("ref",)
            )
        if self.token_key is not None and not is_environment_name(self.token_key):
            raise fault(
                "must be the name of an environment variable",
                fix="put the token into a variable and write its name here",
                at=("token_key",),
            )
        return self


def _kind(value: Any) -> str:
    return "Map" if isinstance(value, dict | RepositorySpec) else "Text"


DocsEntry = Annotated[
    Annotated[Text, Tag("Text")] | Annotated[RepositorySpec, Tag("Map")], Discriminator(_kind)
]
"""A path, a glob, or a map."""
