"""Names of spans, metrics and attributes: one registry for code and documentation.

OpenTelemetry's own names come first (GenAI and RPC semantic conventions);
`thermesh.*` is for what they do not know.
"""

from __future__ import annotations

from typing import Final

# Attributes of the GenAI conventions.
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_CONVERSATION: Final = "gen_ai.conversation.id"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"

# Metrics of the GenAI conventions, seconds, with the buckets they advise.
TIME_TO_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"  # noqa: S105  # tokens of text
TIME_PER_OUTPUT_TOKEN: Final = "gen_ai.server.time_per_output_token"  # noqa: S105  # likewise
REQUEST_DURATION: Final = "gen_ai.server.request.duration"
TIME_TO_FIRST_TOKEN_BUCKETS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TIME_PER_OUTPUT_TOKEN_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)

# Attributes of the RPC conventions.
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"

# Our own attributes.
REQUEST_ID: Final = "thermesh.request.id"
SESSION_ID: Final = "thermesh.session.id"
TENANT: Final = "thermesh.tenant"
DECISION_ID: Final = "thermesh.decision.id"
POLICY_VERSION: Final = "thermesh.policy.version"
PLAN_SOURCE: Final = "thermesh.plan.source"
TEMPERATURE: Final = "thermesh.temperature"
TASK: Final = "thermesh.task"
SCENARIO: Final = "thermesh.scenario"
HOP: Final = "thermesh.hop"
CACHE_RESULT: Final = "thermesh.cache.result"
REASON: Final = "thermesh.reason"
VOICE_STAGE: Final = "thermesh.voice.stage"

# Our own metrics.
RPC_SERVER_DURATION: Final = "rpc.server.call.duration"
TEMPERATURE_APPLIED: Final = "thermesh.temperature.applied"
# As the operator's page has them: bounds belong to the bucket below.
TEMPERATURE_BUCKETS: Final = tuple(step / 10 for step in range(1, 21))
HOP_FAILURES: Final = "thermesh.hop.failures"
SEQUENCES_RUNNING: Final = "thermesh.sequences.running"
SEQUENCES_WAITING: Final = "thermesh.sequences.waiting"
KV_PAGES_USED: Final = "thermesh.kv.pages.used"
KV_PAGES_CACHED: Final = "thermesh.kv.pages.cached"
PREFIX_CACHE_QUERIES: Final = "thermesh.prefix_cache.queries"
PREFIX_CACHE_HITS: Final = "thermesh.prefix_cache.hits"
GUESSES: Final = "thermesh.speculation.guesses"
PREFIX_CACHE_EVICTIONS: Final = "thermesh.prefix_cache.evictions"
KV_PAGES_TOTAL: Final = "thermesh.kv.pages.total"
VOICE_STAGE_DURATION: Final = "thermesh.voice.stage.duration"
STREAMS_OPEN: Final = "thermesh.streams.open"
TOKENS_GENERATED: Final = "thermesh.tokens.generated"
TOKENS_PROMPT: Final = "thermesh.tokens.prompt"
REQUESTS: Final = "thermesh.requests"
UPDATES: Final = "thermesh.parameter.updates"
OUTCOMES_LOST: Final = "thermesh.outcomes.lost"
TELEMETRY_LOST: Final = "thermesh.telemetry.lost"
REVISIONS_LOST: Final = "thermesh.revisions.lost"
OUTCOMES_PENDING: Final = "thermesh.outcomes.pending"
DECISIONS: Final = "thermesh.decisions"
DECISION_DURATION: Final = "thermesh.decision.duration"
DECISIONS_UNRECORDED: Final = "thermesh.decisions.unrecorded"
FEEDBACK: Final = "thermesh.feedback"
POLICY_LIVE_VERSION: Final = "thermesh.policy.live_version"
FEATURE_CACHE: Final = "thermesh.feature.cache"
FEATURE_DURATION: Final = "thermesh.feature.duration"
