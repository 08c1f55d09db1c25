"""Bodies and answers of OpenAI's completions and models.

Source: https://platform.openai.com/docs/api-reference/completions, which has the defaults; the
fields top_k, min_p, repetition_penalty, min_tokens and ignore_eos are ours, as clients send them to
vLLM.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.api.schemas import (
    IGNORE_EOS,
    LOGIT_BIAS,
    MAX_INT,
    MAX_PENALTY,
    MAX_TOP,
    MIN_PENALTY,
    MIN_TOKENS,
    Body,
    LogitBias,
    Sampled,
    Stops,
    Text,
    Texts,
    Usage,
    in_words,
)
from serving.errors import RequestError

Ids = Annotated[list[int], Field(min_length=1, fail_fast=True)]
ListsOfIds = Annotated[list[Ids], Field(min_length=1, fail_fast=True)]
Prompt = Annotated[
    Text | Texts | Ids | ListsOfIds,
    in_words(
        "a text, a list of texts, a list of token ids or a list of such lists, and none of them "
        "empty"
    ),
]


class StreamOptions(BaseModel):
    """Those that are not known here are passed over."""

    model_config = ConfigDict(strict=True, frozen=True)

    include_usage: bool = Field(
        default=False, description="tell the usage of all choices in a last chunk of its own"
    )
    include_obfuscation: bool = Field(default=False, description="taken, and changes nothing")


class CompletionRequest(Sampled, Body):
    model: str = Field(default="luminanet", description="who writes: see /v1/models")
    prompt: Prompt = Field(
        description="one text or several, as they are or as token ids (/tokenize); each at most as "
        "many tokens as the model's context",
        examples=["Once upon a time, there was a little"],
    )
    n: int = Field(default=1, ge=1, le=MAX_INT, description="choices for every prompt")
    max_tokens: int = Field(
        default=16, ge=0, le=MAX_INT, description="of every choice, at most; 0 with echo"
    )
    min_tokens: int = Field(default=0, ge=0, le=MAX_INT, description=MIN_TOKENS)
    ignore_eos: bool = Field(default=False, description=IGNORE_EOS)
    temperature: float = Field(
        default=1.0, ge=0, le=100, description="0 always takes the most likely token"
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="only the most likely tokens that together reach p"
    )
    top_k: int = Field(
        default=0, ge=0, le=MAX_INT, description="only the k most likely tokens; 0: all"
    )
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="only tokens at least p times as likely as the best"
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=MIN_PENALTY,
        le=MAX_PENALTY,
        description="makes tokens of the text so far less likely (above 1) or more (below)",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INT,
        description="of choice 0; choice i is drawn with seed + i (modulo 2^63), so it is what a "
        "request with that seed and its prompt alone gets; by chance when absent",
    )
    stop: Stops = Field(default=[], description="strings that end a text and are not part of it")
    stream: bool = Field(default=False, description="answer piece by piece, as server-sent events")
    stream_options: StreamOptions | None = Field(default=None, description="where stream is true")
    echo: bool = Field(
        default=False, description="begin every text, and its logprobs, with its prompt"
    )
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=MAX_TOP,
        description="tell the tokens with their log-probabilities, at temperature 1 and before any "
        "limit, penalty or bias, and so many of the most likely ones in the place of each",
    )
    logit_bias: LogitBias = Field(default={}, description=LOGIT_BIAS)
    user: str | None = Field(default=None, description="taken, and changes nothing")
    best_of: int | None = Field(default=None, description="taken where it is n")
    suffix: str | None = Field(default=None, description="taken where it is empty")
    presence_penalty: float = Field(default=0.0, description="taken where it is 0")
    frequency_penalty: float = Field(default=0.0, description="taken where it is 0")

    @property
    def with_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def check_supported(self) -> None:
        """Raises RequestError for what the API has and the engines do not."""
        refused = {
            "best_of": (
                self.best_of not in (None, self.n),
                "all choices are answered, none is discarded: send n alone",
            ),
            "suffix": (bool(self.suffix), "no text is written between two others: leave it out"),
            "presence_penalty": (
                self.presence_penalty != 0,
                "only repetition_penalty is known here: leave it out or send 0",
            ),
            "frequency_penalty": (
                self.frequency_penalty != 0,
                "only repetition_penalty is known here: leave it out or send 0",
            ),
            "stream_options": (
                self.stream_options is not None and not self.stream,
                "they are for stream: true",
            ),
        }
        for param, (wrong, why) in refused.items():
            if wrong:
                raise RequestError(f"{param}: {why}", param)


class Logprobs(BaseModel):
    """One entry in every list for each token, the end-of-text token and those of a stop string
    included; with echo those of the prompt come first, and of the very first nothing is told."""

    tokens: list[str] = Field(description="bytes that are no whole characters as bytes:\\x..")
    token_logprobs: list[float | None]
    text_offset: list[int] = Field(
        description="characters of the text that were whole before the token"
    )
    top_logprobs: list[dict[str, float] | None] | None = Field(
        default=None, description="the most likely tokens in the place of each, and itself"
    )


class Choice(BaseModel):
    text: str = Field(examples=[" girl named Lily."])
    index: int = Field(description="prompt p of n choices each has p * n to p * n + n - 1")
    logprobs: Logprobs | None
    finish_reason: str | None = Field(
        description="stop: end of text or a stop string; length: max_tokens or a full context",
        json_schema_extra={"enum": ["stop", "length", None]},
    )


class Completion(BaseModel):
    """A whole answer, or a chunk of a stream: then with the new text of some choices."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(description="seconds since 1970")
    model: str
    system_fingerprint: str = Field(description="changes with the networks that are served")
    choices: list[Choice]
    usage: Usage | None = Field(
        default=None, description="every prompt counts once; in a stream as stream_options say"
    )


class OpenAIModel(BaseModel):
    id: str = Field(examples=["luminanet"])
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since 1970: when this server was started")
    owned_by: Literal["luminanet"] = "luminanet"
    root: str = Field(description="the artifact's name, which requests may use as well")
    max_model_len: int = Field(description="tokens that one prediction can see")


class OpenAIModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]
