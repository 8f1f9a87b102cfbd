"""The first stages of every flow: check, pull and configure the models it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from merganser.errors import ModelNotFoundError, ModelRunnerError, PlanError
from merganser.models.outage import DEFAULT_WAIT_SECONDS
from merganser.models.ref import canonical, pull_command
from merganser.prompt import confirm
from merganser.tasks.models import ModelStatus, ReadyModel, check_model, configure_model, pull_model
from merganser.tasks.options import submit

if TYPE_CHECKING:
    from datetime import timedelta

    from prefect.futures import PrefectFuture

    from merganser.models.ref import ModelRef, ModelUse, PullPolicy, Role
    from merganser.retrieval.opening import ModelPlace

QUESTION = "Model not found locally. Do you want to pull it now?"


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """How the models of a run are found and what is done about missing ones.

    Attributes:
        base_url: A model server's address, or None to look for one.
        pull: ``ask`` asks whoever sits at the terminal, and pulls without a terminal.
        wait_for_server: How long a server that is away is waited for; None for ten minutes, and
            then not for one that is not there at the beginning.
    """

    base_url: str | None = None
    pull: PullPolicy = "missing"
    wait_for_server: timedelta | None = None

    @property
    def wait_seconds(self) -> float:
        """How long a server that is away in mid-run is waited for."""
        wait = self.wait_for_server
        return DEFAULT_WAIT_SECONDS if wait is None else wait.total_seconds()


class ModelStages:
    """Gets models ready, one after the other as a small machine needs it.

    A reranker that cannot be had is left out: hits keep their order, and results say so.

    Attributes:
        last: The tasks that the next one comes after.
        lacking: Why a model that the run can do without is not there, by its canonical name.
    """

    def __init__(self, policy: ModelPolicy) -> None:
        self._policy = policy
        self._status: dict[tuple[Role, str], PrefectFuture[ModelStatus]] = {}
        self._ready: dict[tuple[Role, str], PrefectFuture[ReadyModel]] = {}
        self.last: list[PrefectFuture[Any]] = []
        self.lacking: dict[str, str] = {}

    def check(self, use: ModelUse) -> None:
        """Find the model's server and ask whether the model is local.

        Raises:
            RunnerUnreachableError: No server answers; the message lists every address tried.
        """
        waits = self._policy.wait_for_server is not None
        checked = submit(check_model, use, self._policy.base_url, waits=waits, after=self.last)
        if self._settled(use, checked):
            self._status[_key(use)] = checked

    def pull(self, use: ModelUse) -> None:
        """Pull the model if it is missing and the policy says so.

        Raises:
            ModelNotFoundError: It is missing and must not be pulled.
            PullError: It could not be pulled.
        """
        checked = self._status.get(_key(use))
        if checked is None:
            return
        status = checked.result()
        try:
            wanted = must_pull(status, self._policy.pull)
        except ModelNotFoundError as error:
            self._do_without(use, error)
            return
        if wanted:
            pulled = submit(pull_model, checked)
            if self._settled(use, pulled):
                self._status[_key(use)] = pulled

    def configure(self, use: ModelUse) -> None:
        """Configure the model for its role and load it.

        Raises:
            ModelRunnerError: It cannot be configured or loaded.
        """
        status = self._status.get(_key(use))
        if status is not None:
            configured = submit(configure_model, status, after=self.last)
            if self._settled(use, configured):
                self._ready[_key(use)] = configured

    def ready(self, role: Role, model: ModelRef) -> PrefectFuture[ReadyModel] | None:
        """Return the future of a model in a role, or None when the run goes without it."""
        return self._ready.get((role, canonical(model.model)))

    def find(self, role: Role, model: ModelRef) -> ModelPlace | None:
        """Return the place of a model in a role, or None when the run goes without it."""
        future = self.ready(role, model)
        if future is None:
            return None
        # An index run never asks, and must not pay for importing retrieval.
        from merganser.retrieval.opening import ModelPlace  # noqa: PLC0415 - only who asks agents pays for it

        ready = future.result()
        return ModelPlace(ready.address, ready.served)

    def place(self, role: Role, model: ModelRef) -> ModelPlace:
        """Return the place of a model that the run cannot do without.

        Raises:
            PlanError: No stage of the plan made it ready.
        """
        found = self.find(role, model)
        if found is None:
            raise PlanError(f"the plan has no stage that makes the model {model.name!r} ready")
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What users should know of the models: aliases, above all, and what is not there."""
        found = [note for future in self._ready.values() for note in future.result().notes]
        return tuple(dict.fromkeys([*found, *self.lacking.values()]))

    def _settled(
        self, use: ModelUse, future: PrefectFuture[ModelStatus] | PrefectFuture[ReadyModel]
    ) -> bool:
        """Wait for a stage; False when it failed and the run can do without the model."""
        try:
            future.result()
        except ModelRunnerError as error:
            self._do_without(use, error)
            return False
        self.last = [future]
        return True

    def _do_without(self, use: ModelUse, error: ModelRunnerError) -> None:
        self._status.pop(_key(use), None)
        if use.role != "reranking":
            raise error
        self.lacking[canonical(use.model.model)] = str(error)


def _key(use: ModelUse) -> tuple[Role, str]:
    return use.role, canonical(use.model.model)


def must_pull(status: ModelStatus, policy: PullPolicy) -> bool:
    """Return whether the policy has this model pulled.

    Raises:
        ModelNotFoundError: The model is missing and must not be pulled.
    """
    name = status.use.model.model
    if policy == "always":
        return True
    if status.served is not None:
        return False
    where = f"{name!r} is not local at {status.address.shown} (wanted by {status.use.used_by})"
    if policy == "never":
        raise ModelNotFoundError(f"{where} and --pull is never; pull it: {pull_command(name)}")
    if policy == "ask" and not confirm(f"{name}: {QUESTION}", default=True):
        raise ModelNotFoundError(f"{where} and the pull was declined; later: {pull_command(name)}")
    return True
