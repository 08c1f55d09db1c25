"""What do the engines do: how full are batches and queues, how long is a call?"""

from monitoring.board import WINDOW, Board, Kind, Limit, Panel, Query, Unit, heat

BATCH = "luminanet_batch_size"
CALLS = "luminanet_inference_duration_seconds"


def _quantile(quantile: float) -> Query:
    buckets = f"sum by (model, phase, le) (rate({CALLS}_bucket[{WINDOW}]))"
    name = f"{{{{model}}}}, {{{{phase}}}}, p{100 * quantile:g}"
    return Query(f"histogram_quantile({quantile}, {buckets})", name)


ENGINE = Board(
    "engine",
    "LuminaNet / Engine",
    "Batches, queues, tokens a call (K), calls and the self-test, by model.",
    [
        Panel(
            "Requests in the batch",
            "What is computed now, and the most that is computed together.",
            Unit.COUNT,
            [
                Query("sum by (model, task) (luminanet_requests_running)", "{{model}}, {{task}}"),
                Query("max by (model, task) (luminanet_max_batch)", "{{model}}, {{task}}, at most"),
            ],
        ),
        Panel(
            "Requests in the queue",
            "What waits for a place in a batch.",
            Unit.COUNT,
            [Query("sum by (model, task) (luminanet_requests_waiting)", "{{model}}, {{task}}")],
        ),
        Panel(
            "Places taken in the queue",
            "Waiting requests over what may wait; a full queue answers 429. Dashed: where an alert "
            "fires.",
            Unit.SHARE,
            [Query("max by (model, task) (luminanet:queue:ratio)", "{{model}}, {{task}}")],
            limit=Limit(0.8),
        ),
        Panel(
            "Mean size of a batch",
            "Sequences or pictures in one call.",
            Unit.COUNT,
            [
                Query(
                    f"sum by (model, task) (rate({BATCH}_sum[{WINDOW}]))"
                    f" / sum by (model, task) (rate({BATCH}_count[{WINDOW}]))",
                    "{{model}}, {{task}}",
                )
            ],
        ),
        *(
            Panel(
                f"Sizes of batches, {name}",
                f"How many calls of {name} computed how many sequences or pictures together.",
                Unit.COUNT,
                [heat(BATCH, f'model="{model}",task="text-generation"')],
                Kind.HEAT,
            )
            for model, name in (("luminanet", "LuminaNet"), ("gpt2", "GPT-2"))
        ),
        Panel(
            "How long a call takes",
            "One call of a network: prefill a prompt, decode K tokens of every sequence, classify "
            "pictures.",
            Unit.SECONDS,
            [_quantile(0.5), _quantile(0.99)],
        ),
        Panel(
            "Calls",
            "Calls of a network a second, by phase.",
            Unit.RATE,
            [
                Query(
                    f"sum by (model, phase) (rate({CALLS}_count[{WINDOW}]))", "{{model}}, {{phase}}"
                )
            ],
        ),
        Panel(
            "Tokens a call draws for a sequence (K)",
            "The setting --steps. More tokens a call: more tokens/s, and a stream that sends them "
            "together.",
            Unit.COUNT,
            [Query("max by (model) (luminanet_steps_per_call)", "{{model}}")],
            Kind.BARS,
        ),
        Panel(
            "Self-test: distance from the reference",
            "Of each graph, as a share of what it may be on this machine, found at the start. "
            "Above 1 it is not served; an alert fires above 0.5.",
            Unit.SHARE,
            [Query("max by (model, graph) (luminanet_graph_error_ratio)", "{{model}}, {{graph}}")],
            Kind.BARS,
            Limit(0.5),
        ),
    ],
)
