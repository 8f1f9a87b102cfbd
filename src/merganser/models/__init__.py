"""Everything about model servers over HTTP: finding, pulling, configuring, asking."""

from merganser.models.address import (
    Address,
    Probe,
    candidate_addresses,
    parse_address,
    probe_all,
    resolve_address,
)
from merganser.models.chat import (
    ChatAnswer,
    ChatDelta,
    ChatOptions,
    ToolCall,
    ToolCallDelta,
    Usage,
    merge_messages,
    plain_tools,
)
from merganser.models.client import ModelRunner, token_of
from merganser.models.configure import Configuration, ConfigureRequest, configure_request, mode_of
from merganser.models.ensure import PreparedModel, PullPolicy, ensure_model, prepare_model
from merganser.models.names import canonical, is_hugging_face, pull_command
from merganser.models.probes import CANARY_TEXTS, EmbeddingCanary, RerankCanary
from merganser.models.pull import PullInterruptedError, PullProgress, report_pull
from merganser.models.rerank import ScoreNormalisation, normalise_scores
from merganser.models.retry import NO_RETRY, RetryPolicy, with_retries
from merganser.models.server_errors import ToolTemplateError
from merganser.models.wire import (
    DiskUsage,
    EmbeddingBatch,
    Mode,
    RemovedModel,
    RerankScore,
    RunnerStatus,
    RunningModel,
    ServedModel,
    Timeouts,
)

__all__ = [
    "CANARY_TEXTS",
    "NO_RETRY",
    "Address",
    "ChatAnswer",
    "ChatDelta",
    "ChatOptions",
    "Configuration",
    "ConfigureRequest",
    "DiskUsage",
    "EmbeddingBatch",
    "EmbeddingCanary",
    "Mode",
    "ModelRunner",
    "PreparedModel",
    "Probe",
    "PullInterruptedError",
    "PullPolicy",
    "PullProgress",
    "RemovedModel",
    "RerankCanary",
    "RerankScore",
    "RetryPolicy",
    "RunnerStatus",
    "RunningModel",
    "ScoreNormalisation",
    "ServedModel",
    "Timeouts",
    "ToolCall",
    "ToolCallDelta",
    "ToolTemplateError",
    "Usage",
    "candidate_addresses",
    "canonical",
    "configure_request",
    "ensure_model",
    "is_hugging_face",
    "merge_messages",
    "mode_of",
    "normalise_scores",
    "parse_address",
    "plain_tools",
    "prepare_model",
    "probe_all",
    "pull_command",
    "report_pull",
    "resolve_address",
    "token_of",
    "with_retries",
]
