"""The keys of cagent's language that are known here but not supported yet.

Most are ignored with a warning. Those that restrict what an agent may do or spend are refused:
ignoring them would run the agent with more freedom than its file gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UnsupportedKey:
    """What happens to a key of cagent's language that is known here but not supported.

    Attributes:
        refused: Whether loading fails; otherwise it warns and ignores the key.
        problem: The message.
        fix: What to do about a refused key; "" for an ignored one.
        explains_all: Whether the map around the key makes no sense without it, so that other
            errors of that map would only repeat this one.
    """

    refused: bool
    problem: str
    fix: str = ""
    explains_all: bool = False


UnsupportedKeys = Mapping[str, UnsupportedKey]

_IGNORED = UnsupportedKey(refused=False, problem="not supported yet, ignored")


def _ignored(keys: str) -> dict[str, UnsupportedKey]:
    return dict.fromkeys(keys.split(), _IGNORED)


def _refused(**reasons: str) -> dict[str, UnsupportedKey]:
    return {
        key: UnsupportedKey(
            refused=True,
            problem=f"not supported yet, and ignoring it would be unsafe: it {reason}",
            fix="remove it if you can do without, or wait for a version that enforces it",
        )
        for key, reason in reasons.items()
    }


def _refused_with(problem: str, fix: str) -> UnsupportedKey:
    return UnsupportedKey(refused=True, problem=problem, fix=fix)


def _instead(fix: str) -> UnsupportedKey:
    return UnsupportedKey(refused=True, problem="not supported yet", fix=fix, explains_all=True)


_TOOL_LIMITS = _refused(
    tools="limits which tools the agent gets",
    readonly="keeps tools from changing anything",
)

ROOT: UnsupportedKeys = {
    **_ignored("mcps commands skills toolsets flavors"),
    **_refused(
        permissions="decides which tool calls are allowed",
        runtime="restricts what tools may do (sandbox, safety, network_allowlist)",
        budget="limits cost, tokens and time",
        budgets="limits cost, tokens and time",
    ),
}

PROVIDER: UnsupportedKeys = {
    **_ignored(
        """
        provider unload_api temperature max_tokens top_p frequency_penalty
        presence_penalty parallel_tool_calls provider_opts track_usage thinking_budget
        compaction_model
        """
    ),
    **_refused(task_budget="limits what a task may spend"),
    "auth": _refused_with(
        "not supported yet: requests would go out without these credentials",
        "use token_key, or a base_url that needs none",
    ),
}

MODEL: UnsupportedKeys = {
    **_ignored(
        """
        parallel_tool_calls track_usage thinking_budget routing description
        bypass_models_gateway title_model compaction_model compaction_threshold
        capabilities output_capabilities cost
        """
    ),
    **_refused(task_budget="limits what a task may spend"),
    "auth": PROVIDER["auth"],
    "first_available": _instead("write provider and model"),
}

PROVIDER_OPTIONS: UnsupportedKeys = _ignored(
    """
        mode raw_runtime_flags gpu_memory_utilization hf_overrides supports_images
        supports_pdf extra_body http_headers top_k min_p repetition_penalty seed
        unload_api api_type rerank_prompt interleaved_thinking
        """
)

AGENT: UnsupportedKeys = {
    **_ignored(
        """
        fallback instruction_file welcome_message sub_agents handoffs force_handoff
        subagents add_date add_environment_info add_prompt_files
        add_prompt_files_depth max_old_tool_call_tokens max_tool_result_tokens
        num_history_items session_compaction compaction_threshold compaction_model
        code_mode_tools add_description_parameter commands structured_output skills
        use_commands use_skills use_toolsets harness cache
        """
    ),
    **_refused(
        max_iterations="limits how often the model is called",
        max_consecutive_tool_calls="stops an agent that repeats itself",
        hooks="may block tool calls",
        readonly="keeps tools from changing anything",
        safety="decides which tool calls are allowed",
        redact_secrets="keeps secrets out of what the model sees",
        budgets="limits cost, tokens and time",
    ),
}

FILESYSTEM: UnsupportedKeys = {
    **_ignored("toon model defer post_edit"),
    **_TOOL_LIMITS,
    **_refused(
        allow_list="limits which files the agent reaches",
        deny_list="keeps files from the agent",
    ),
}

RAG_TOOLSET: UnsupportedKeys = {
    **_ignored("toon model defer"),
    **_TOOL_LIMITS,
    "rag_config": _refused_with(
        "not supported yet inside a toolset",
        "move it to rag.<name> at the top level and write 'ref: <name>' here",
    ),
}

_COMMON_TOOLSET = frozenset({"type", "name", "instruction", "toon", "model", "defer"})
TOOLSETS: Mapping[str, frozenset[str]] = {
    kind: _COMMON_TOOLSET | frozenset(keys.split())
    for kind, keys in {
        "a2a": "url headers",
        "api": "api_config",
        "background_agents": "",
        "background_jobs": "recall",
        "fetch": "timeout headers allow_private_ips",
        "file": "path",
        "git": "",
        "lsp": "command args env file_types version working_dir",
        "mcp": "command args env remote ref config version working_dir lifecycle",
        "mcp_catalog": "",
        "memory": "path",
        "model_picker": "models",
        "open_url": "",
        "openapi": "url headers",
        "plan": "path",
        "scheduler": "path",
        "script": "shell env",
        "session_context": "",
        "session_plan": "",
        "shell": "env sudo_askpass",
        "tasks": "path",
        "think": "",
        "todo": "shared",
        "user_prompt": "",
        "webhook": "webhook_config",
    }.items()
}
"""Toolset types that are ignored with a warning, with the keys that they may have."""

TOOLSET_LIMITS: UnsupportedKeys = {
    **_TOOL_LIMITS,
    **_refused(
        allowed_domains="limits which hosts the agent reaches",
        blocked_domains="keeps hosts from the agent",
        allowed_servers="limits which servers the agent reaches",
        blocked_servers="keeps servers from the agent",
    ),
}
"""Keys that are refused even in a toolset that is ignored: a file that restricts is not run in
part, so that users need not work out what still holds."""

RAG: UnsupportedKeys = {
    **_ignored("instruction name defer indexing_timeout"),
    "tools": _TOOL_LIMITS["tools"],
}

CHUNKED_EMBEDDINGS: UnsupportedKeys = {
    **_ignored("max_indexing_concurrency"),
    "batch_size": UnsupportedKey(
        refused=False, problem="ignored, as in cagent; write embedding_batch_size"
    ),
}

STRATEGIES: UnsupportedKeys = {
    "semantic-embeddings": _refused_with(
        "the strategy 'semantic-embeddings' is not supported yet",
        "use chunked-embeddings or bm25, alone or together",
    )
}
"""Strategy types that are known and refused."""

RESULTS: UnsupportedKeys = _ignored("prefetch topology_prior")
