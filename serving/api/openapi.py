"""What the OpenAPI document says of bodies and answers beside their schemas."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from serving.api.requests import JSON

TOLD = ("title", "description", "default", "examples")
"""What a schema says of a field, whichever of its kinds a value has."""

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJggg=="
)
"""A white one, as a PNG in base64."""
ONE = {
    "text": " girl",
    "finish_reason": "length",
    "usage": {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9},
    "model": "luminanet",
    "seed": 7,
}
ANOTHER = {**ONE, "text": " boy", "seed": 8}
WRITTEN = {
    "description": "The text, or with n above 1 or a list of prompts the list `answers`; with "
    "`stream: true` as server-sent events, of which each holds what one call of the network gave: "
    "up to as many tokens as the server's setting `steps`. With `logprobs: true` each has those of "
    "its tokens, and its text may be empty; of several each has the `index` of its text",
    "content": {
        JSON: {
            "examples": {
                "one": {"summary": "a prompt, one answer", "value": ONE},
                "several": {
                    "summary": "n: 2",
                    "value": {
                        "answers": [ONE, ANOTHER],
                        "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
                        "model": "luminanet",
                    },
                },
            }
        },
        "text/event-stream": {
            "example": 'data: {"text": " girl"}\n\ndata: {"finish_reason": "length", "usage": '
            '{"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}, "model": '
            '"luminanet", "seed": 7}\n\ndata: [DONE]\n\n',
        },
    },
}
PROMPTS = {
    "one": {
        "summary": "a prompt, one answer",
        "value": {"prompt": "Once upon a time", "max_tokens": 20, "seed": 7},
    },
    "several answers": {
        "summary": "a prompt, three answers: with the seeds 7, 8 and 9",
        "value": {"prompt": "Once upon a time", "n": 3, "max_tokens": 20, "seed": 7},
    },
    "several prompts": {
        "summary": "two prompts, an answer each",
        "value": {"prompt": ["Once upon a time", "The little dog"], "max_tokens": 20},
    },
}
FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "description": "a PNG, JPEG or WebP, or an .npy file of uint8 [32, 32, 3] or "
            "[n, 32, 32, 3]; several of this field are answered with the list `answers`",
            "anyOf": [
                {"type": "string", "format": "binary"},
                {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
            ],
        },
        "top_k": {"type": "integer", "minimum": 1, "default": 5},
        "model": {"type": "string", "default": "luminanet", "description": "who looks"},
    },
}
ARRAY = {
    "type": "string",
    "format": "binary",
    "description": "what numpy.save writes of uint8 [32, 32, 3], a picture, or [n, 32, 32, 3], "
    "which is answered with the list `answers`: rows, columns and red, green, blue",
}
QUERY = [
    {
        "name": name,
        "in": "query",
        "description": f"as the field {name}, where the body is an .npy file",
        "schema": FORM["properties"][name],
    }
    for name in ("top_k", "model")
]
PICTURES = {
    "one": {"summary": "a picture", "value": {"image": PIXEL}},
    "several": {"summary": "two pictures", "value": {"image": [PIXEL, PIXEL], "top_k": 1}},
}


def body_content(
    content: Mapping[str, Mapping[str, Any]], examples: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """OpenAPI's description of a body, and examples of it, by media type."""
    described: dict[str, dict[str, Any]] = {
        kind: {"schema": schema} for kind, schema in content.items()
    }
    for kind, shown in examples.items():
        described[kind]["examples"] = shown
    return {"requestBody": {"required": True, "content": described}}


def described(body: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a body for OpenAPI: whole, since references would lead nowhere from within
    another document, and with null where a field may be absent."""
    schema = body.model_json_schema()
    named = schema.pop("$defs", {})
    required = schema.get("required", ())
    schema["properties"] = {
        name: field if name in required else _nullable(field)
        for name, field in schema["properties"].items()
    }
    return dict(_inlined(schema, named))


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    told = {name: part for name, part in field.items() if name in TOLD}
    kinds = field.get("anyOf", [{name: part for name, part in field.items() if name not in TOLD}])
    null = {"type": "null"}
    return {**told, "anyOf": kinds if null in kinds else [*kinds, null]}


def _inlined(schema: Any, named: Mapping[str, Any]) -> Any:
    """Its references to `named` replaced by what they name."""
    if isinstance(schema, list):
        return [_inlined(one, named) for one in schema]
    if not isinstance(schema, dict):
        return schema
    beside = {name: _inlined(one, named) for name, one in schema.items() if name != "$ref"}
    if "$ref" not in schema:
        return beside
    return {**_inlined(named[schema["$ref"].removeprefix("#/$defs/")], named), **beside}
