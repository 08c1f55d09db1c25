"""What a body asks of a text model -> the generations of its request: one core for /generate,
/v1/completions and /v2."""

import secrets
from collections.abc import Sequence
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from serving.api.jobs.together import Together, naming
from serving.api.schemas import MAX_BIASES, MAX_INT, Sampled
from serving.engines.detokenize import Transcript
from serving.engines.opened import Wish
from serving.engines.text import Generation
from serving.errors import RequestError
from serving.models.load import Models, TextModel
from serving.settings import Settings

ESCAPED_BYTES = 12
"""Of a character in JSON at most: two escapes of UTF-16."""
OTHER_BYTES = 8192 + 64 * MAX_BIASES
"""For all fields beside the prompt, stop strings and biases included, and white space."""
SEED_BITS = 53
"""Of a seed that is chosen here: readers of JSON that hold doubles give it back whole."""
LONG_PROMPTS = 16
"""A body may have as many bytes as so many of the longest prompts."""


def text_bytes(models: Models, most: int, prompts: int = 1) -> int:
    """Bytes that the body of a request with so many of the longest prompts can need, up to
    `most`."""
    characters = (m.manifest.context * m.longest_token for m in models.texts)
    return min(most, prompts * (ESCAPED_BYTES * max(characters, default=0) + OTHER_BYTES))


async def generations(
    body: Sampled, wish: Wish, model: TextModel, settings: Settings, request: Request
) -> Together:
    """Of every prompt n, one after the other; number i is drawn with the request's seed + i, so it
    is what a request with that seed and its prompt alone gets. Raises RequestError."""
    max_tokens = settings.default_max_tokens if body.max_tokens is None else body.max_tokens
    rows = len(body.prompts) * body.n
    _check_length(max_tokens, body.min_tokens, body.echo or wish.prompt, settings)
    _check_total(rows, max_tokens, settings)
    model.known(list(body.logit_bias), "logit_bias")
    encode = partial(_token_ids, model, body.prompts, body.listed)
    prompts = await run_in_threadpool(encode) if len(body.prompts) > 1 else encode()
    seed = secrets.randbelow((1 << SEED_BITS) - rows) if body.seed is None else body.seed
    each = [prompt for prompt in prompts for _ in range(body.n)]
    jobs = [
        Generation(
            prompt,
            Transcript(model.tokenizer.stream(), body.stop, body.min_tokens),
            body.sampling((seed + index) % (MAX_INT + 1), model.manifest.end_id),
            max_tokens,
            request.state.arrived_s,
            request.state.request_id,
            wish=wish,
            ignore_eos=body.ignore_eos,
        )
        for index, prompt in enumerate(each)
    ]
    return Together(jobs, body.n)


def _check_length(max_tokens: int, min_tokens: int, may_be_0: bool, settings: Settings) -> None:
    """Raises RequestError."""
    if not (max_tokens or may_be_0):
        raise RequestError("max_tokens is 0: without echo it must be at least 1", "max_tokens")
    if min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens is {min_tokens}, more than the {max_tokens} of max_tokens: lower it",
            "min_tokens",
        )
    if max_tokens > settings.max_tokens_limit:
        raise RequestError(
            f"max_tokens is {max_tokens}; this server allows 1 to {settings.max_tokens_limit}",
            "max_tokens",
        )


def _check_total(rows: int, max_tokens: int, settings: Settings) -> None:
    """Raises RequestError: so many could never wait together, or would hold all rows for long."""
    if rows > settings.queue_limit:
        raise RequestError(
            f"the request asks for {rows} texts; this server allows {settings.queue_limit}: lower "
            "n, or send several requests",
            "n",
        )
    most = settings.max_batch * settings.max_tokens_limit
    if rows * max_tokens > most:
        raise RequestError(
            f"{rows} texts of {max_tokens} tokens are {rows * max_tokens}; this server allows "
            f"{most} in a request: lower max_tokens, or send several requests",
            "max_tokens",
        )


def _token_ids(
    model: TextModel, prompts: Sequence[str | list[int]], listed: bool
) -> list[list[int]]:
    """Raises RequestError, which names the prompt where they were `listed`."""
    found: list[list[int]] = []
    for number, prompt in enumerate(prompts):
        with naming(f"prompt[{number}]" if listed else "", "prompt"):
            if isinstance(prompt, str):
                found.append(model.encode(prompt))
            else:
                found.append(model.check(prompt, "prompt"))
    return found
