"""Who asks for what, and what goes wrong?"""

from monitoring.board import WINDOW, Board, Kind, Limit, Panel, Query, Unit

ERRORS_LIMIT = Limit(0.01)
"""That of the alert LuminaNetErrors."""


def _now(title: str, description: str, unit: Unit, expr: str, limit: Limit) -> Panel:
    queries = [Query(expr, title)]
    return Panel(title, description, unit, queries, Kind.NUMBER, limit, width=6, height=5)


def _rate(title: str, description: str, metric: str, by: str, limit: Limit | None = None) -> Panel:
    name = ", ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    queries = [Query(f"sum by ({by}) (rate({metric}[{WINDOW}]))", name)]
    return Panel(title, description, Unit.RATE, queries, limit=limit)


TRAFFIC = Board(
    "traffic",
    "LuminaNet / Traffic and errors",
    "Requests, answers, tokens, and what was refused or failed.",
    [
        _now(
            "Servers that are up",
            "Targets that answer /metrics.",
            Unit.COUNT,
            'sum(up{job="luminanet"})',
            Limit(1, good="above"),
        ),
        _now(
            "Servers that take work",
            "Targets whose /health/ready answers 200.",
            Unit.COUNT,
            "sum(luminanet_ready)",
            Limit(1, good="above"),
        ),
        _now(
            "Alerts that fire",
            "What to do on each is in docs/monitoring.md.",
            Unit.COUNT,
            'count(ALERTS{alertname=~"LuminaNet.+",alertstate="firing"}) or vector(0)',
            Limit(1),
        ),
        _now(
            "Share of 5xx",
            "Of all answers in 5 minutes. An alert fires above 1 %.",
            Unit.SHARE,
            "luminanet:request_errors:ratio5m",
            ERRORS_LIMIT,
        ),
        _rate(
            "Requests, by route",
            "Answers a second; paths that do not exist are counted as other.",
            "luminanet_requests_total",
            "route",
        ),
        _rate(
            "Answers, by status",
            "429: a full queue. 503: the server starts or drains. 500: our fault, and in the log. "
            "Other 4xx: requests that are refused.",
            "luminanet_requests_total",
            "code",
        ),
        Panel(
            "Share of failed requests",
            "Answers with a 5xx over all answers, 5 minutes. Dashed: where an alert fires.",
            Unit.SHARE,
            [Query("luminanet:request_errors:ratio5m", "5xx")],
            limit=ERRORS_LIMIT,
        ),
        _rate(
            "Requests turned away",
            "Before they entered a queue, by model: overloaded (429) or shutting_down (503).",
            "luminanet_requests_rejected_total",
            "model, task, reason",
            Limit(0.01),
        ),
        _rate(
            "How requests ended",
            "stop and length are whole texts, done a picture, cancelled a client that left.",
            "luminanet_requests_finished_total",
            "model, finish_reason",
        ),
        Panel(
            "Tokens",
            "Of admitted prompts and of the texts written.",
            Unit.RATE,
            [
                Query(
                    f"sum by (model) (rate(luminanet_{side}_tokens_total[{WINDOW}]))",
                    f"{{{{model}}}}, {side}",
                )
                for side in ("prompt", "generation")
            ],
        ),
    ],
)
