"""A run as a row of samples.parquet, from what llama.cpp and the monitor said of it, and whether it counts."""

import hashlib
import math
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from velosweep.config.speculation_kinds import KINDS
from velosweep.errors import RunFailed, RunTimeout
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.machine.conditions import Conditions
from velosweep.measuring.lane_context import LaneContext
from velosweep.planning.measurements import Measurement
from velosweep.values import SHORTEST_DRAFTED, Mode, Sample, Status, decode_speed

# Nothing decodes a token of a language model in less than a microsecond; a clock that says so is wrong.
_LEAST_MS_PER_TOKEN = 0.001
# What may pass of a run beside llama.cpp's own times: sending, tokenising and waking up on a busy machine.
_MOST_LOST_MS, _MOST_LOST_SHARE = 1000.0, 0.5


def make_sample(
    context: LaneContext,
    measurement: Measurement,
    request: Request,
    outcome: Generation | RunFailed,
    conditions: Conditions,
    *,
    started_at: datetime,
    attempt: int = 0,
    memory_bytes: int | None = None,
) -> Sample:
    """The row of a run that has ended, whatever came of it. A lane's runs are numbered in the order of the calls.

    Raises StorageError where the journal can't be written.
    """
    generation, status = None, Status.OK
    if isinstance(outcome, RunFailed):
        error: str | None = str(outcome)
        status = Status.TIMEOUT if isinstance(outcome, RunTimeout) else Status.FAILED
    else:
        generation, error = outcome, invalid_reason(outcome, measurement.server, request)
        status = Status.INVALID if error else Status.OK
    engine = context.prepared.engine_of(measurement.server)
    return Sample(
        **_what(measurement, generation),
        sweep_id=context.sweep_id,
        n_predict=request.n_predict,
        prompt_set=measurement.job.prompts.name,
        prompt_id=request.prompt.id,
        prompt=request.prompt.text,
        prompt_category=request.prompt.category,
        order=next(context.order),
        status=status,
        error=error,
        **asdict(conditions),
        **_figures(generation, measurement.server),
        first_divergence=_divergence(context, measurement, generation, status),
        started_at=started_at,
        lane=context.lane.number,
        device=context.lane.label,
        host=context.prepared.environment.host,
        engine=engine.name,
        llama_cpp_build=engine.build,
        attempt=attempt,
        temperature=request.sampling.temperature,
        seed=request.sampling.seed,
        turn=request.prompt.turn,
        memory_bytes=memory_bytes,
    )


def _divergence(
    context: LaneContext, measurement: Measurement, generation: Generation | None, status: Status
) -> int | None:
    """Index of the first token that differs from the vanilla output; None where none does or none can.

    Speculative output must equal it under greedy decoding.
    """
    job, outputs = measurement.job, context.outputs
    if generation is None or measurement.warmup or job.sampling.temperature > 0 or not generation.tokens:
        return None
    key = (job.baseline_id, measurement.prompt.id)
    if measurement.server.mode is Mode.VANILLA:
        if status is Status.OK and key not in outputs:
            outputs[key] = generation.tokens
            tokens = list(generation.tokens)
            context.recorder.journal.note("output", baseline_id=key[0], prompt_id=key[1], tokens=tokens)
        return None
    reference = outputs.get(key)
    if reference is None or _draws_acceptance(measurement.server):
        return None
    pairs = enumerate(zip(reference, generation.tokens, strict=False))
    return next((index for index, (vanilla, drafted) in pairs if vanilla != drafted), None)


def _draws_acceptance(server: ServerConfig) -> bool:
    """Whether llama.cpp accepts drafts at random: the text is meaningless then, and is compared with nothing."""
    return server.speculation is not None and server.speculation.synthetic_acceptance is not None


def _what(measurement: Measurement, generation: Generation | None) -> dict[str, Any]:
    """Which server ran when, and its first answer."""
    job, server = measurement.job, measurement.server
    return {
        "job_id": measurement.owner,
        "job_num": None if server.mode is Mode.VANILLA and measurement.shared else job.num,
        "model_pair": job.model_pair.name,
        "main_model": server.main_model,
        "draft_model": server.draft_model,
        "speculation": "none" if server.speculation is None else server.speculation.label,
        "n_draft": server.n_draft,
        "mode": server.mode,
        "iteration": measurement.iteration,
        "launch": measurement.launch,
        "warmup": measurement.warmup,
        "block": measurement.group,
        "concurrency": server.concurrency,
        "depth": server.depth,
        "p_min": None if server.speculation is None else server.speculation.p_min,
        "answer": generation.text[:_ANSWER_LENGTH] if generation and measurement.iteration == 1 else None,
    }


_ANSWER_LENGTH = 1000  # characters of a server's first answer to a prompt that are kept, to be read by people

_FIGURES = [one.name for one in fields(Generation) if one.name not in ("tokens", "text", "truncated", "shortest")]
"""Columns that are a Generation's fields."""


def _figures(generation: Generation | None, server: ServerConfig) -> dict[str, Any]:
    """The columns that say what came of it; all None where nothing did."""
    if generation is None:
        return dict.fromkeys((*_FIGURES, "verify_ms", "tokens_per_second", "output_sha256"))
    output = "" if _draws_acceptance(server) else ",".join(map(str, generation.tokens)) or generation.text
    return {
        **{name: getattr(generation, name) for name in _FIGURES},
        "verify_ms": None if generation.draft_ms is None else max(generation.predicted_ms - generation.draft_ms, 0.0),
        "tokens_per_second": decode_speed(generation.predicted_tokens, generation.predicted_ms),
        "output_sha256": hashlib.sha256(output.encode()).hexdigest() if output else None,
    }


def invalid_reason(generation: Generation, server: ServerConfig, request: Request) -> str | None:
    """None if the run is what was asked for, else why it can't count."""
    if generation.truncated:
        return "truncated: the context was full; raise engine.context or lower n_predict"
    shortest = generation.predicted_tokens if generation.shortest is None else generation.shortest
    natural = request.stop == "natural" and generation.stop_reason in ("eos", "word")
    if natural and shortest < 2:
        return "the text ended with its first token, so that nothing was decoded"
    if shortest < request.n_predict and not natural:
        return f"only {shortest} of {request.n_predict} tokens were generated"
    for name in ("prompt_ms", "predicted_ms", "time_to_first_token_ms", "total_time_ms"):
        value = getattr(generation, name)
        if not math.isfinite(value) or value < 0:
            return f"{name} is {value}, which is no time"
    if generation.prompt_tokens < 1:
        return f"{generation.prompt_tokens} prompt tokens were read"
    steps = generation.predicted_tokens - 1
    if steps > 0 and generation.predicted_ms < steps * _LEAST_MS_PER_TOKEN:
        return f"{generation.predicted_tokens} tokens in {generation.predicted_ms:g} ms is not believable"
    if generation.total_time_ms < generation.time_to_first_token_ms:
        return "the last token came before the first"
    return _why_stalled(generation, server) or _judge_drafts(generation, server)


def _why_stalled(generation: Generation, server: ServerConfig) -> str | None:
    """Time that llama.cpp spent neither on the prompt nor on decoding, or more than there was; streams wait for others.

    Who measures was stopped then (a suspended machine or process), or the server had other requests.
    """
    own_ms = generation.prompt_ms + generation.predicted_ms
    lost_ms = generation.total_time_ms - own_ms
    if server.concurrency == 1 and -lost_ms > max(_MOST_LOST_MS, _MOST_LOST_SHARE * generation.total_time_ms):
        return f"{own_ms:g} ms of work in a request of {generation.total_time_ms:g} ms is not believable"
    if server.concurrency > 1 or lost_ms < max(_MOST_LOST_MS, _MOST_LOST_SHARE * own_ms):
        return None
    return (
        f"untrusted: of {generation.total_time_ms / 1000:.1f} s llama.cpp used {own_ms / 1000:.1f}; velosweep or the "
        "machine was held up, or the server had other requests"
    )


def _judge_drafts(generation: Generation, server: ServerConfig) -> str | None:
    """`draft_tokens` None: the build doesn't say, and its /slots said whether it speculates."""
    drafted, accepted, speculation = generation.draft_tokens, generation.accepted_tokens, server.speculation
    if server.mode is Mode.VANILLA:
        return f"{drafted} tokens were drafted in a vanilla run" if drafted else None
    # An n-gram kind drafts nothing for a text that repeats nothing; a draft model always drafts, unless it is told to
    # drop what is unlikely or short, as somebody may have told an attached server.
    always = speculation is None or (
        any(kind.draft_settings for kind in speculation.all_kinds)
        and not (speculation.p_min or speculation.n_min or server.engine.kind == "attached")
    )
    if drafted == 0 and always and generation.predicted_tokens >= SHORTEST_DRAFTED:
        return "nothing was drafted in a speculative run; what was measured is vanilla decoding"
    if drafted is not None and accepted is not None and not 0 <= accepted <= drafted:
        return f"{accepted} of {drafted} drafted tokens accepted is not possible"
    # llama.cpp silently drafts less than asked with some heads. Its counter has one entry for each position that it can
    # draft. Parameters of a kind may say another length, and so may kinds that we know nothing of.
    positions = generation.accepted_per_position
    kinds = speculation.all_kinds if speculation is not None else ()
    if positions is None or (speculation and speculation.parameters) or any(kind.name not in KINDS for kind in kinds):
        return None
    longest = max([server.n_draft, *(kind.fixed_length or 0 for kind in kinds)])
    if len(positions) == longest:
        return None
    return f"llama.cpp drafts {len(positions)} tokens at a time here, whatever it is told, and not n_draft {longest}"
