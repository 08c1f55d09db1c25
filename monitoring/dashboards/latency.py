"""How long do texts take, by model?"""

from monitoring.board import Board, Kind, Limit, Panel, Query, Unit, heat, quantiles

FIRST_TOKEN_LIMIT = Limit(1.0)
TOKEN_LIMIT = Limit(0.05)
"""Those of the alerts LuminaNetFirstTokenSlow and LuminaNetTokensSlow."""

FIRST_TOKEN = Panel(
    "Time to first token",
    "From the arrival of a request to its first non-empty text, over 5 minutes. Dashed: where an "
    "alert fires for LuminaNet's p99.",
    Unit.SECONDS,
    quantiles("time_to_first_token_seconds", "model"),
    limit=FIRST_TOKEN_LIMIT,
)
PER_TOKEN = Panel(
    "Time per output token",
    "(last - first) / (tokens - 1) of a text: its pace. Dashed: where an alert fires for "
    "LuminaNet's p99.",
    Unit.SECONDS,
    quantiles("time_per_output_token_seconds", "model"),
    limit=TOKEN_LIMIT,
)
INTER_TOKEN = Panel(
    "Inter-token latency",
    "Between two tokens as they are handed over. Those of one call come together: the first after "
    "the whole wait, the others after 0 s. The p99 is the longest wait; the mean is the pace.",
    Unit.SECONDS,
    [
        *quantiles("inter_token_latency_seconds", "model")[1:],
        Query(
            "sum by (model) (rate(luminanet_inter_token_latency_seconds_sum[5m]))"
            " / sum by (model) (rate(luminanet_inter_token_latency_seconds_count[5m]))",
            "{{model}}, mean",
        ),
    ],
    limit=TOKEN_LIMIT,
)
END_TO_END = Panel(
    "Whole requests, by route",
    "From the headers of a request to the end of its answer, over 5 minutes. /generate is the time "
    "of whole texts of any length, both models together.",
    Unit.SECONDS,
    quantiles("request_duration_seconds", "route", where=',route!~"/health/.*|/metrics|other"'),
)
QUEUE = Panel(
    "Wait for a place in a batch",
    "Near 0 while there are free places; what grows here is added to the time to first token.",
    Unit.SECONDS,
    quantiles("request_queue_seconds", "model", "task"),
)


def _heat(title: str, description: str, metric: str, selector: str) -> Panel:
    return Panel(title, description, Unit.SECONDS, [heat(metric, selector)], Kind.HEAT)


LATENCY = Board(
    "latency",
    "LuminaNet / Latency",
    "How long texts take: first token, every token, whole requests; by model.",
    [
        FIRST_TOKEN,
        PER_TOKEN,
        *(
            _heat(
                f"Time to first token, {name}",
                f"How many texts of {name} began after how long. Two clouds: some waited for a "
                "place.",
                "luminanet_time_to_first_token_seconds",
                f'model="{model}"',
            )
            for model, name in (("luminanet", "LuminaNet"), ("gpt2", "GPT-2"))
        ),
        INTER_TOKEN,
        QUEUE,
        *(
            _heat(
                f"Inter-token latency, {name}",
                f"How many tokens of {name} came after how long a wait. The lowest row holds those "
                "that came together with the one before.",
                "luminanet_inter_token_latency_seconds",
                f'model="{model}"',
            )
            for model, name in (("luminanet", "LuminaNet"), ("gpt2", "GPT-2"))
        ),
        END_TO_END,
        _heat(
            "Whole requests to /generate",
            "How many requests for a text were answered after how long, both models together.",
            "luminanet_request_duration_seconds",
            'route="/generate"',
        ),
    ],
)
