"""Is LuminaNet better than GPT-2, by how much, and how sure is that?"""

from monitoring.board import WINDOW, Board, Kind, Limit, Panel, Query, Unit, with_interval

AHEAD = Limit(1.0, good="above")
STALE_S = 90 * 86400.0
PAIRED = (
    "From shadow traffic: the same requests computed by both models. Above 1 LuminaNet is ahead; "
    "the band is a 95 % interval. An alert fires when all of the band is below 1."
)


def _latency(title: str, quantity: str) -> Panel:
    queries = [
        query
        for quantile in (0.5, 0.99)
        for query in with_interval(
            f"p{100 * quantile:g}",
            "luminanet:latency_advantage",
            f'{{quantity="{quantity}",quantile="{quantile}"}}',
        )
    ]
    return Panel(title, PAIRED, Unit.TIMES, queries, limit=AHEAD)


def _now(title: str, description: str, expr: str) -> Panel:
    queries = [Query(expr, title)]
    return Panel(title, description, Unit.TIMES, queries, Kind.NUMBER, AHEAD, width=6, height=5)


ADVANTAGE = Board(
    "advantage",
    "LuminaNet / Advantage",
    "How many times better LuminaNet is than GPT-2, live: latency, tokens/s and memory.",
    [
        _now(
            "Whole texts, median",
            "How many times faster the median request is answered.",
            'luminanet:latency_advantage:ratio{quantity="request_duration",quantile="0.5"}',
        ),
        _now(
            "Tokens/s",
            "How many times as many tokens/s LuminaNet writes in the same company.",
            "luminanet:throughput_advantage:ratio",
        ),
        _now(
            "Peak memory, 256 sequences",
            "How many times less memory (USS) a server of LuminaNet takes at its peak.",
            'luminanet:memory_advantage:ratio{kind="peak_uss",sequences="256"}',
        ),
        _now(
            "State of a sequence",
            "How many times less state one sequence holds, by the shapes of what is kept.",
            "luminanet:sequence_state_advantage:ratio",
        ),
        _latency("Time to first token", "time_to_first_token"),
        _latency("Time per output token", "time_per_output_token"),
        _latency("Whole requests", "request_duration"),
        Panel(
            "Tokens per second, ratio",
            PAIRED,
            Unit.TIMES,
            with_interval("ratio", "luminanet:throughput_advantage"),
            limit=AHEAD,
        ),
        Panel(
            "Pairs behind the ratios",
            "How many pairs the intervals rest on. Below 100 no alert about a lost advantage "
            "fires; a p99 needs 200.",
            Unit.COUNT,
            [
                Query("luminanet:latency_advantage:samples", "{{quantity}}"),
                Query("luminanet:throughput_advantage:samples", "tokens/s"),
            ],
            limit=Limit(100, good="above"),
        ),
        Panel(
            "Shadow requests",
            "What becomes of the requests that are chosen to be computed again. They are skipped "
            "while the server is busy.",
            Unit.RATE,
            [
                Query(
                    f"sum by (outcome) (rate(luminanet_shadow_requests_total[{WINDOW}]))",
                    "{{outcome}}",
                )
            ],
        ),
        Panel(
            "Tokens written for clients",
            "By model. Not a comparison: it depends on which model clients ask for.",
            Unit.RATE,
            [Query("luminanet:generation_tokens:rate5m", "{{model}}")],
        ),
        Panel(
            "Memory, ratio",
            "GPT-2's memory over LuminaNet's under so many sequences at once, each model alone in "
            "a server, measured by `python -m serving.measure`. Above 1 LuminaNet needs less.",
            Unit.TIMES,
            [Query("luminanet:memory_advantage:ratio", "{{kind}}, {{sequences}} sequences")],
            Kind.BARS,
            AHEAD,
        ),
        Panel(
            "Memory under load",
            "Measured: what a server with this model alone takes (USS at its peak). About 120 MB "
            "of each is Python and the runtime.",
            Unit.BYTES,
            [
                Query(
                    "avg by (model, sequences) "
                    '(luminanet_load_memory_bytes{kind="peak_uss",task="text-generation"})',
                    "{{model}}, {{sequences}} sequences",
                )
            ],
            Kind.BARS,
        ),
        Panel(
            "Memory of a model",
            "Measured: the weights as served, what a session adds, and what one sequence takes.",
            Unit.BYTES,
            [
                Query(
                    'avg by (model, kind) (luminanet_model_memory_bytes{task="text-generation"})',
                    "{{model}}, {{kind}}",
                )
            ],
            Kind.BARS,
        ),
        Panel(
            "Age of the memory figures",
            "Time since memory was measured. Measure again after a change of graphs or runtime.",
            Unit.SECONDS,
            [
                Query(
                    "time() - max by (model) (luminanet_memory_measured_timestamp_seconds)",
                    "{{model}}",
                )
            ],
            Kind.NUMBER,
            Limit(STALE_S),
            height=5,
        ),
        Panel(
            "Where memory was measured",
            "The machine of the figures of memory.",
            Unit.COUNT,
            [Query("count by (machine) (luminanet_memory_measurement_info)", "{{machine}}")],
            Kind.NUMBER,
            height=5,
        ),
    ],
)
