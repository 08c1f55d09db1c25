"""Bodies and answers of the API. Types are strict and unknown fields are refused; lists of a body
are left at their first bad item (FailFast)."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # that of typing only from Python 3.12 on

from luminanet.sampling import Sampling

MAX_STOPS = 4
MAX_STOP_CHARACTERS = 64
MAX_INT = 2**63 - 1
MIN_PENALTY, MAX_PENALTY = 0.1, 10
MAX_BIASES, MAX_BIAS = 300, 100
MAX_TOP = 20


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def in_words(words: str) -> WrapValidator:
    """One error, where a union has one for each of its kinds."""

    def checked(value: Any, check: Any) -> Any:
        try:
            return check(value)
        except ValidationError as error:
            raise PydanticCustomError(
                "kind", "input should be {words}", {"words": words}
            ) from error

    return WrapValidator(checked)


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1, fail_fast=True)]
TextOrTexts = Text | Texts
Stop = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Stops = Annotated[
    list[Stop],
    FailFast(),
    BeforeValidator(_as_list, json_schema_input_type=Stop | list[Stop]),
    Field(max_length=MAX_STOPS),
]


def _biases(value: Any) -> dict[int, float]:
    """Left at the first bad item, which a dict of pydantic's is not."""
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "input should be an object of token ids and numbers")
    if len(value) > MAX_BIASES:
        raise PydanticCustomError("too_long", f"at most {MAX_BIASES} tokens may have a bias")
    found = {}
    for name, bias in value.items():
        if not (name.isascii() and name.isdigit() and len(name) < 19 and str(int(name)) == name):
            raise PydanticCustomError("token", "names should be token ids, as /tokenize gives them")
        if type(bias) not in (int, float) or not -MAX_BIAS <= bias <= MAX_BIAS:
            raise PydanticCustomError("bias", f"a bias is a number, -{MAX_BIAS} to {MAX_BIAS}")
        found[int(name)] = float(bias)
    return found


LogitBias = Annotated[
    dict[int, float],
    PlainValidator(_biases),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MAX_BIASES,
            "propertyNames": {"pattern": "^(0|[1-9][0-9]*)$"},
            "additionalProperties": {"type": "number", "minimum": -MAX_BIAS, "maximum": MAX_BIAS},
        }
    ),
]
LOGIT_BIAS = (
    f"what is added to the logits of up to {MAX_BIASES} tokens, by token id (/tokenize), before "
    f"anything else: {-MAX_BIAS} all but forbids a token, {MAX_BIAS} all but forces it"
)
MIN_TOKENS = (
    "before so many tokens the end-of-text token is not drawn, unless ignore_eos is set, and no "
    "stop string ends the text"
)
IGNORE_EOS = "the end-of-text token does not end the text, which goes on to max_tokens"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Sampled:
    """What bodies that ask for texts have in common, whatever their defaults."""

    if TYPE_CHECKING:  # fields of the bodies, each in its own order
        prompt: str | list[str] | list[int] | list[list[int]]
        n: int
        max_tokens: int | None
        min_tokens: int
        ignore_eos: bool
        temperature: float
        top_k: int
        top_p: float
        min_p: float
        repetition_penalty: float
        logit_bias: LogitBias
        seed: int | None
        stop: Stops
        echo: bool

    @property
    def listed(self) -> bool:
        """Whether the prompt is a list of prompts, of one or more."""
        return isinstance(self.prompt, list) and not isinstance(self.prompt[0], int)

    @property
    def prompts(self) -> list[Any]:
        """One or more texts, as they are or as token ids."""
        return list(self.prompt) if self.listed else [self.prompt]

    def sampling(self, seed: int, end_id: int) -> Sampling:
        """How the tokens are to be chosen; `seed` is the request's, or one chosen for it, `end_id`
        the model's end of text."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=seed,
            logit_bias=self.logit_bias,
            min_tokens=0 if self.ignore_eos else self.min_tokens,
            end_id=end_id,
        )


class GenerateRequest(Sampled, Body):
    prompt: Annotated[
        TextOrTexts, in_words("a text or a list of texts, and none of them empty")
    ] = Field(
        description="text to continue, or a list of such texts; each at most as many tokens as the "
        "model's context (/models)",
        examples=["Once upon a time, there was a little"],
    )
    n: int = Field(
        default=1,
        ge=1,
        le=MAX_INT,
        description="answers for every prompt; with more than one, or a list of prompts, they come "
        "as the list `answers`, those of a prompt one after the other",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INT,
        description="tokens to generate at most; the server sets default and limit; 0 with echo or "
        "prompt_logprobs",
    )
    min_tokens: int = Field(default=0, ge=0, le=MAX_INT, description=MIN_TOKENS)
    ignore_eos: bool = Field(default=False, description=IGNORE_EOS)
    temperature: float = Field(
        default=0.8,
        ge=0,
        le=100,
        description="0 always takes the most likely token; more is more varied",
    )
    top_k: int = Field(
        default=50, ge=0, le=MAX_INT, description="only the k most likely tokens; 0: all"
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="only the most likely tokens that together reach p"
    )
    min_p: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="only tokens at least p times as likely as the most likely one; 0: all",
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=MIN_PENALTY,
        le=MAX_PENALTY,
        description="makes tokens that the model sees in the text so far less likely (above 1) or "
        "more (below): divides their logits where positive, multiplies them where negative",
    )
    logit_bias: LogitBias = Field(default={}, description=LOGIT_BIAS)
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INT,
        description="same seed, same text, whatever else runs; chosen and answered when absent; of "
        "several answers number i is drawn with seed + i (modulo 2^63)",
    )
    stop: Stops = Field(
        default=[],
        description=f"a string or up to {MAX_STOPS} strings of up to {MAX_STOP_CHARACTERS} "
        "characters that end the text and are not part of it",
    )
    logprobs: bool = Field(
        default=False,
        description="answer the natural logarithm of the probability of every token generated, at "
        "temperature 1 and before any limit, penalty or bias",
    )
    top_logprobs: int = Field(
        default=0,
        ge=0,
        le=MAX_TOP,
        description="answer so many of the most likely tokens in the place of every token",
    )
    echo: bool = Field(default=False, description="begin the text with the prompt")
    prompt_logprobs: bool = Field(
        default=False,
        description="answer the same of the prompt's tokens, each after those before it; the first "
        "has none",
    )
    stream: bool = Field(default=False, description="answer piece by piece, as server-sent events")
    model: str = Field(default="luminanet", description="who writes: see /models")

    @property
    def several(self) -> bool:
        """Whether it is answered with a list."""
        return self.listed or self.n > 1


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int = Field(description="tokens generated, the end-of-text token included")
    total_tokens: int


class TopToken(BaseModel):
    id: int
    token: str = Field(description="its text; bytes that are no whole characters as bytes:\\x..")
    logprob: float


class GenerateResponse(BaseModel):
    text: str = Field(examples=[" girl named Lily."])
    finish_reason: str = Field(
        description="stop: end of text or a stop string; length: max_tokens or a full context",
        json_schema_extra={"enum": ["stop", "length"]},
    )
    usage: Usage
    model: str
    seed: int
    logprobs: list[float] | None = Field(
        default=None,
        description="one for each of usage.completion_tokens, where the request asks for them",
    )
    top_logprobs: list[list[TopToken]] | None = Field(
        default=None, description="for each of these the most likely tokens in its place"
    )
    prompt_logprobs: list[float | None] | None = Field(
        default=None, description="one for each of usage.prompt_tokens; null for the first"
    )
    prompt_top_logprobs: list[list[TopToken] | None] | None = Field(
        default=None, description="with prompt_logprobs and top_logprobs; null for the first"
    )


class GenerateAnswers(BaseModel):
    """Several answers, of a request with a list of prompts or n above 1."""

    answers: list[GenerateResponse] = Field(
        description="each as its prompt alone gets it with its seed; of n answers each, prompt p "
        "has p * n to p * n + n - 1"
    )
    usage: Usage = Field(description="of all; every prompt counts once")
    model: str


class ClassifyRequest(Body):
    image: Annotated[
        TextOrTexts, in_words("a file in base64 or a list of such files, and none of them empty")
    ] = Field(
        description="a PNG, JPEG or WebP file in base64, or an .npy file of uint8 [32, 32, 3] or "
        "[n, 32, 32, 3]; or a list of such files, which is answered with the list `answers`"
    )
    top_k: int = Field(default=5, ge=1, description="how many of the most likely classes to list")
    model: str = Field(default="luminanet", description="who looks: see /models")


class Prediction(TypedDict):
    """As what else answers tell of pictures, no model: to check what is known takes longer than to
    find it."""

    label: str
    index: int
    probability: float


class ClassifyResponse(TypedDict):
    label: Annotated[str, Field(examples=["ship"])]
    index: int
    probabilities: Annotated[
        dict[str, float], Field(description="every class by name; they sum to 1")
    ]
    top_k: Annotated[list[Prediction], Field(description="the most likely classes, best first")]
    model: str


class ClassifyAnswers(TypedDict):
    """Several answers, of a request with a list of pictures or an array of several."""

    answers: Annotated[list[ClassifyResponse], Field(description="in the order of the pictures")]
    model: str


class ErrorDetail(BaseModel):
    type: str = Field(examples=["invalid_request"])
    message: str = Field(examples=["max_tokens is 0: it must be at least 1"])
    param: str | None = Field(description="the field to mend, where there is one")


class ErrorAnswer(BaseModel):
    error: ErrorDetail


def error_answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the errors a route may answer with."""
    return {code: {"model": ErrorAnswer} for code in codes}
