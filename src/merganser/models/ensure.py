"""Make a model ready for its use: look, pull by the policy, configure, load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from merganser.errors import PullError
from merganser.models.configure import configure_request, mode_of
from merganser.models.server_errors import model_not_found

if TYPE_CHECKING:
    from collections.abc import Callable

    from merganser.models.client import ModelRunner
    from merganser.models.pull import ProgressCallback
    from merganser.models.ref import ModelUse
    from merganser.models.wire import ServedModel

PullPolicy: TypeAlias = Literal["always", "missing", "never", "ask"]


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that is ready for its use.

    Attributes:
        served: What the server has.
        notes: What a user should know: an alias, a server that manages nothing, an old server.
        configured: A configuration was applied; False when it stood already or none was wanted.
    """

    served: ServedModel
    notes: tuple[str, ...]
    configured: bool


async def ensure_model(
    runner: ModelRunner,
    use: ModelUse,
    *,
    policy: PullPolicy = "missing",
    confirm: Callable[[ModelUse], bool] | None = None,
    on_progress: ProgressCallback | None = None,
) -> ServedModel:
    """Look whether a model is local and pull it if the policy says so.

    Args:
        runner: The client of the model's server.
        use: The model and what it is for.
        policy: ``always`` pulls even what is there, ``never`` pulls nothing, ``missing`` pulls what
            is not there, ``ask`` pulls that too if ``confirm`` agrees.
        confirm: Asks the user; without it ``ask`` pulls, as there is nobody to ask.
        on_progress: Told after every line of a pull.

    Raises:
        ModelNotFoundError: It is missing and was not pulled; names the command that pulls it.
        PullError: It could not be pulled.
    """
    ref = use.model.model
    where = runner.address.shown
    managed = await runner.managed()
    served = None
    if policy != "always" or not managed:
        # A pull asks the registry even for what is local, so offline it fails: look first.
        served = await runner.model(ref)
    if served is not None:
        return served
    if not managed:
        raise model_not_found(ref, where=where, reason="that server pulls nothing by itself")
    if policy == "never":
        raise model_not_found(ref, where=where, reason=f"wanted by {use.used_by}, pulling is off")
    if policy == "ask" and confirm is not None and not confirm(use):
        raise model_not_found(ref, where=where, reason="the pull was declined")
    await runner.pull(ref, on_progress=on_progress)
    served = await runner.model(ref)
    if served is None:
        raise PullError(
            f"the pull of {ref!r} at {where} reported success, but the model is not there; "
            "`docker model list` shows what is",
            url=where,
        )
    return served


async def prepare_model(
    runner: ModelRunner,
    use: ModelUse,
    *,
    policy: PullPolicy = "missing",
    confirm: Callable[[ModelUse], bool] | None = None,
    on_progress: ProgressCallback | None = None,
    load: bool = True,
) -> PreparedModel:
    """Ensure a model, configure it for its use and load it in that mode.

    Always in this order: configuring a model that is not local yet leaves an orphan behind.

    Args:
        runner: The client of the model's server.
        use: The model and what it is for.
        policy: As for ``ensure_model``.
        confirm: As for ``ensure_model``.
        on_progress: As for ``ensure_model``.
        load: Load it now, so that the first real request does not wait.

    Raises:
        ModelNotFoundError: It is missing and was not pulled.
        PullError: It could not be pulled.
        RunnerUnavailableError: It stayed busy and could not be configured.
        RequestRejectedError: A flag is not allowed, or the model cannot be loaded.
    """
    served = await ensure_model(
        runner, use, policy=policy, confirm=confirm, on_progress=on_progress
    )
    notes = [served.note] if served.note else []
    ref, mode = use.model.model, mode_of(use)
    configured = False
    request = configure_request(use, served)
    if request is not None and served.managed:
        configured = await runner.configure(ref, request)
    if load and mode is not None:
        await runner.preload(ref, mode)
    return PreparedModel(served, tuple(notes), configured)
