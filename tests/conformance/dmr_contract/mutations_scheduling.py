"""Mutations of administration, configuration, loading and of who answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dmr_contract.asgi import (
    Answer,
    any_call,
    call_is,
    on_answer,
    on_request,
    path_ends,
    read_call,
    replay,
    send_answer,
)
from dmr_contract.edits import (
    Mutation,
    deaf,
    edit_body,
    edit_entries,
    edit_fields,
    text_error,
    turn_status,
)

if TYPE_CHECKING:
    from dmr_contract.asgi import App, Message, Middleware, Receive, Scope, Send


CONFIGURE = path_ends("/_configure")
PS = path_ends("/engines/ps")
UNLOAD = path_ends("/engines/unload")


def unavailable_while_loading(app: App) -> App:
    """Answer 503 instead of waiting for the engine."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].endswith("/embeddings"):
            await app(scope, receive, send)
            return
        call = await read_call(scope, receive)
        started = asyncio.Event()

        async def noted(message: Message) -> None:
            started.set()
            await send(message)

        serving = asyncio.ensure_future(app(scope, replay(call.body, receive), noted))
        waiting = asyncio.ensure_future(started.wait())
        await asyncio.wait({serving, waiting}, timeout=0.3, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if started.is_set() or serving.done():
            await serving
        else:
            serving.cancel()
            await send_answer(text_error(503, "model is loading"), send)

    return broken


def merged_configs() -> Middleware:
    """Keep the fields of earlier configs."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}

    def merge(body: dict[str, Any]) -> dict[str, Any]:
        key = (str(body.get("model")), str(body.get("mode")))
        kept[key] = {**kept.get(key, {}), **body}
        return kept[key]

    return on_request(CONFIGURE, edit_body(merge))


def shared_configs(app: App) -> App:
    """Let a config of any mode be one of embedding too."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        is_configure = CONFIGURE(scope["method"], scope["path"]) and scope["method"] == "POST"
        if not is_configure:
            await app(scope, receive, send)
            return
        call = await read_call(scope, receive)
        body = call.fields()
        if body.get("mode", "completion") == "completion":
            again = call.with_json({**body, "mode": "embedding"})

            async def swallow(_message: Message) -> None:
                return

            await app(scope, replay(again.body, receive), swallow)
        await app(scope, replay(call.body, receive), send)

    return broken


def without_unknown_flags(body: dict[str, Any]) -> dict[str, Any]:
    """Drop what would be refused."""
    flags = body.get("runtime-flags", [])
    kept = [flag for flag in flags if flag != "--foo" and "/" not in flag and "\\" not in flag]
    raw = str(body.get("raw-runtime-flags", "")).replace("--foo", "")
    return {**body, "runtime-flags": kept, "raw-runtime-flags": raw}


def with_mended_flags(body: dict[str, Any]) -> dict[str, Any]:
    """Read flags as kindly as our client does, and drop what it could not."""
    words = [word for flag in body.get("runtime-flags", []) for word in flag.split("=")]
    known = {"--ngl": "-ngl", "-threads": "--threads", "--log-file": "1", "-1": "1"}
    return {**body, "runtime-flags": [known.get(word, word) for word in words]}


def lower_keys(entries: list[Any]) -> list[Any]:
    """Write the keys as the rest of the API does."""
    return [{str(key).lower(): value for key, value in entry.items()} for entry in entries]


SCHEDULING_MUTATIONS = (
    # Section 1.5: administration.
    Mutation(
        "ps keeps false flags",
        "ps_lists_a_used_engine",
        on_answer(
            PS, edit_entries(lambda es: [{"in_use": False, "loading": False, **e} for e in es])
        ),
    ),
    Mutation(
        "ps hides engines in use",
        "ps_shows_an_engine_in_use",
        on_answer(PS, edit_entries(lambda es: [{**e, "in_use": False} for e in es])),
    ),
    Mutation(
        "ps hides loading engines",
        "ps_shows_an_engine_that_is_loading",
        on_answer(PS, edit_entries(lambda es: [e for e in es if not e.get("loading")])),
    ),
    Mutation(
        "two engines of one mode load at once",
        "concurrent_requests_share_one_load",
        on_answer(PS, edit_entries(lambda es: [*es, *(e for e in es if e.get("loading"))])),
    ),
    Mutation(
        "unload counts nothing",
        "unload_counts_the_engines_it_ended",
        on_answer(UNLOAD, edit_fields(lambda _: {"unloaded_runners": 0})),
    ),
    Mutation(
        "unload counts what was asked",
        "unload_does_not_count_unknown_models",
        on_answer(
            UNLOAD,
            lambda call, got: got.with_json(
                {"unloaded_runners": len(call.fields().get("models", []))}
            ),
        ),
    ),
    Mutation(
        "states in lower case",
        "status_names_the_state_of_each_backend",
        on_answer(
            path_ends("/engines/status"),
            edit_fields(lambda states: {name: str(s).lower() for name, s in states.items()}),
        ),
    ),
    # Section 3: configuration.
    Mutation(
        "200 for an accepted config",
        "configure_is_accepted_without_a_body",
        turn_status(202, 200, CONFIGURE),
    ),
    Mutation(
        "accepted config has a body",
        "configure_is_accepted_without_a_body",
        on_answer(CONFIGURE, lambda _, got: got.with_json({}) if got.status == 202 else got),
    ),
    Mutation(
        "lower-case keys in GET _configure",
        "configuration_is_shown_with_capital_keys",
        on_answer(call_is("GET", "/_configure"), edit_entries(lower_keys)),
    ),
    Mutation("merged configs", "configuration_is_replaced_and_never_merged", merged_configs()),
    Mutation(
        "configs shared by the modes",
        "configuration_of_a_mode_does_not_touch_another",
        shared_configs,
    ),
    Mutation(
        "config of an unknown model is refused",
        "unknown_model_is_accepted_and_not_listed",
        on_request(
            call_is("POST", "/_configure"),
            lambda call: (
                text_error(404, "model not found") if b"no-such-model" in call.body else call
            ),
        ),
    ),
    Mutation(
        "serving engine is reconfigured",
        "serving_engine_cannot_be_reconfigured",
        on_answer(CONFIGURE, lambda _, got: Answer(202, {}, b"") if got.status == 409 else got),
    ),
    Mutation(
        "settings need a model",
        "settings_without_a_model_are_accepted_and_are_nobodys",
        on_answer(
            call_is("POST", "/_configure"),
            lambda call, got: (
                got if b"model" in call.body else text_error(400, "model is required")
            ),
        ),
    ),
    Mutation(
        "a misspelt flag is mended",
        "only_names_of_the_list_are_flags",
        on_request(CONFIGURE, edit_body(with_mended_flags)),
    ),
    Mutation(
        "a value in a flag's own word is read",
        "a_flag_that_the_engine_cannot_read_ends_it_at_the_load",
        on_request(CONFIGURE, edit_body(with_mended_flags)),
    ),
    Mutation(
        "a flag in a value is let through",
        "no_flag_hides_in_a_value",
        on_request(CONFIGURE, edit_body(with_mended_flags)),
    ),
    Mutation(
        "any flag is accepted",
        "unknown_flags_are_refused",
        on_request(call_is("POST", "/_configure"), edit_body(without_unknown_flags)),
    ),
    Mutation(
        "paths in flags are accepted",
        "paths_in_flags_are_refused",
        on_request(call_is("POST", "/_configure"), edit_body(without_unknown_flags)),
    ),
    Mutation(
        "400 for a refused flag",
        "unknown_flags_are_refused",
        turn_status(500, 400, CONFIGURE),
    ),
    Mutation(
        "keep_alive as a number",
        "keep_alive_is_a_string",
        on_request(
            call_is("POST", "/_configure"),
            edit_body(lambda body: {**body, "keep_alive": f"{int(body.get('keep_alive') or 1)}s"}),
        ),
    ),
    Mutation(
        "unknown mode is completion",
        "unknown_mode_is_an_invalid_request",
        on_request(
            call_is("POST", "/_configure"), edit_body(lambda body: {**body, "mode": "completion"})
        ),
    ),
    Mutation(
        "no preload after a config",
        "configure_preloads_in_completion_mode_whatever_was_configured",
        on_answer(PS, edit_entries(lambda es: [e for e in es if e["mode"] != "completion"])),
    ),
    Mutation(
        "unload keeps configs",
        "naming_the_backend_at_unload_forgets_the_config",
        on_request(UNLOAD, edit_body(lambda body: {**body, "backend": ""})),
    ),
    Mutation(
        "unload forgets configs always",
        "naming_the_backend_at_unload_forgets_the_config",
        on_request(UNLOAD, edit_body(lambda body: {**body, "backend": "llama.cpp"})),
    ),
    # Sections 6 and 7: loading and honesty.
    Mutation(
        "503 while loading",
        "loading_blocks_the_request_instead_of_refusing_it",
        unavailable_while_loading,
    ),
    Mutation(
        "load goes on without its client",
        "disconnecting_ends_the_load",
        deaf(path_ends("/embeddings")),
    ),
    Mutation(
        "X-Preload-Only is ignored",
        "preload_only_loads_the_paths_mode_and_answers_nothing",
        on_request(any_call, lambda call: call.without_header("x-preload-only")),
    ),
    Mutation(
        "version of a release of Docker's",
        "version_names_the_stand_in",
        on_answer(path_ends("/version"), edit_fields(lambda _: {"version": "v1.2.6"})),
    ),
    Mutation(
        "no Server header of its own",
        "server_header_names_the_stand_in_on_every_answer",
        on_answer(any_call, lambda _, got: got.with_header("server", "Docker Model Runner")),
    ),
)
