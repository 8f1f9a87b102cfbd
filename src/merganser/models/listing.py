"""Which models a server has: Docker Model Runner says by its own calls, others by OpenAI's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.models.ref import canonical, names_same_model
from merganser.models.wire import ServedModel, as_list, as_mapping, as_text, parse_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from merganser.models.connection import Connection

NOT_THERE = frozenset({*range(400, 500), 501}) - {429}
"""How servers say that they have no such call; 429 is about load, not about calls."""


async def manages_models(connection: Connection) -> bool:
    """Return whether the server manages models, as Docker Model Runner does."""
    response = await connection.request("GET", "/models", expected=NOT_THERE)
    # OpenAI servers whose API has no /v1 answer here too, with an object.
    return response.is_success and _is_array(response)


async def list_models(connection: Connection, *, managed: bool) -> tuple[ServedModel, ...]:
    """List the local models of a server, which manages them or not."""
    if not managed:
        names = await _openai_models(connection) or ()
        return tuple(_unmanaged(connection, name) for name in names)
    rows = as_list(await connection.json("GET", "/models"))
    return tuple(parse_model(as_mapping(row)) for row in rows)


async def find_model(connection: Connection, ref: str, *, managed: bool) -> ServedModel | None:
    """Look a model up; None when it is not local.

    Args:
        connection: To any server.
        ref: The model.
        managed: Whether the server manages models; one that does not, and does not list any, is
            believed to have it.
    """
    if not managed:
        return await _find_unmanaged(connection, ref)
    path = f"/models/{canonical(ref)}"
    response = await connection.request("GET", path, model=ref, expected={404})
    if not response.is_success:
        return None
    found = parse_model(as_mapping(connection.decode(response, path=path)), ref=ref)
    # Servers fall back to any model of that bare name, which inference does not. One with a
    # DEFAULT_REGISTRY of its own writes it into the tags, so there it is asked once more.
    if names_same_model(ref, model_id=found.id, tags=found.tags):
        return found
    return found if found.tags and await _serves(connection, ref) else None


async def _serves(connection: Connection, ref: str) -> bool:
    """Return whether inference knows a model by this name; the server looks it up alike."""
    path = f"{connection.address.openai_prefix}/models/{canonical(ref)}"
    response = await connection.request("GET", path, model=ref, expected={404})
    return response.is_success


async def _openai_models(connection: Connection) -> Sequence[str] | None:
    path = f"{connection.address.openai_prefix}/models"
    response = await connection.request("GET", path, expected={404, 405, 501})
    if not response.is_success:
        return None
    rows = as_list(as_mapping(connection.decode(response, path=path)).get("data"))
    return [name for row in map(as_mapping, rows) if (name := as_text(row.get("id")))]


async def _find_unmanaged(connection: Connection, ref: str) -> ServedModel | None:
    listed = await _openai_models(connection)
    if listed is None or ref in listed:
        return _unmanaged(connection, ref)
    wanted = canonical(ref)
    name = next((name for name in listed if canonical(name) == wanted), None)
    return _unmanaged(connection, name, ref=ref) if name is not None else None


def _unmanaged(connection: Connection, name: str, *, ref: str = "") -> ServedModel:
    where = connection.address.shown
    note = f"{where} manages no models: nothing is pulled or configured there"
    return ServedModel(ref or name, name, name, tags=(name,), managed=False, note=note)


def _is_array(response: httpx.Response) -> bool:
    try:
        return isinstance(response.json(), list)
    except (ValueError, RecursionError):
        return False
