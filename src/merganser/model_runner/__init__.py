"""Everything about model servers over HTTP: finding, pulling, configuring, asking."""

from merganser.model_runner.address import (
    Address,
    Probe,
    candidate_addresses,
    parse_address,
    probe_all,
    resolve_address,
)
from merganser.model_runner.canaries import CANARY_TEXTS, EmbeddingCanary, RerankCanary
from merganser.model_runner.chat import (
    ChatAnswer,
    ChatDelta,
    ChatOptions,
    ToolCall,
    ToolCallDelta,
    Usage,
    merge_messages,
    plain_tools,
)
from merganser.model_runner.client import ModelRunner, token_of
from merganser.model_runner.configure import (
    Configuration,
    ConfigureRequest,
    configure_request,
    mode_of,
)
from merganser.model_runner.ensure import (
    PreparedModel,
    PullPolicy,
    ensure_model,
    prepare_model,
)
from merganser.model_runner.faults import ToolTemplateError
from merganser.model_runner.names import canonical, is_hugging_face, pull_command
from merganser.model_runner.pull import PullInterruptedError, PullProgress, report_pull
from merganser.model_runner.rerank import ScoreNormalisation, normalise_scores
from merganser.model_runner.retry import NO_RETRY, RetryPolicy, with_retries
from merganser.model_runner.wire import (
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
