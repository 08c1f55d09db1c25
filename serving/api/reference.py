"""The page /docs: an OpenAPI description -> HTML for people, with no script and nothing from
elsewhere, so that it works without internet and below any prefix."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}code{font-family:ui-monospace,monospace}h2{margin-top:2.5rem}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ccc}"
)


def render(api: Mapping[str, Any]) -> str:
    """`api` is an OpenAPI 3 document, as /openapi.json has it."""
    info = api["info"]
    title = escape(f"{info['title']} {info['version']}")
    operations = (
        _operation(method, path, operation)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{_prose(info['description'])}</p>"
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(operations)}</body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    answers = ", ".join(f"<code>{escape(code)}</code>" for code in operation["responses"])
    bodies = operation.get("requestBody", {}).get("content", {})
    tables = "".join(_fields(kind, body["schema"]) for kind, body in bodies.items())
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{_prose(operation.get('description', ''))}</p>{tables}<p>Answers: {answers}</p>"
    )


def _fields(kind: str, schema: Mapping[str, Any]) -> str:
    if "properties" not in schema:
        about = _prose(schema.get("description", ""))
        return f"<h3><code>{escape(kind)}</code></h3><p>{about}</p>"
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(', '.join(_types(field)))}</td>"
        f"<td>{'required' if name in required else escape(str(field.get('default', '')))}</td>"
        f"<td>{_prose(field.get('description', ''))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return (
        f"<h3><code>{escape(kind)}</code></h3><table><tr><th>field</th><th>type</th>"
        f"<th>default</th><th>meaning</th></tr>{rows}</table>"
    )


def _types(field: Mapping[str, Any]) -> Iterator[str]:
    for option in field.get("anyOf", [field]):
        if "enum" in option:
            yield from option["enum"]
        elif option.get("type") != "null":
            yield option.get("type", "")


def _prose(text: str) -> str:
    """Text in which `code` is marked."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))
