"""What does the server take from its machine?"""

from monitoring.board import WINDOW, Board, Kind, Limit, Panel, Query, Unit

PROCESS = Board(
    "process",
    "LuminaNet / Process",
    "CPU, memory, files and age of each server.",
    [
        Panel(
            "Version",
            "How many servers run which version.",
            Unit.COUNT,
            [Query("count by (version) (luminanet_build_info)", "{{version}}")],
            Kind.NUMBER,
            height=5,
        ),
        Panel(
            "Up since",
            "Time since each server was started.",
            Unit.SECONDS,
            [Query('time() - process_start_time_seconds{job="luminanet"}', "{{instance}}")],
            Kind.NUMBER,
            height=5,
        ),
        Panel(
            "CPU",
            "Cores that are busy with this server.",
            Unit.COUNT,
            [
                Query(
                    f'rate(process_cpu_seconds_total{{job="luminanet"}}[{WINDOW}])',
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            "Memory",
            "Resident memory (RSS): it should level off. Pages shared with other processes count "
            "in full.",
            Unit.BYTES,
            [Query('process_resident_memory_bytes{job="luminanet"}', "{{instance}}")],
        ),
        Panel(
            "Address space",
            "Virtual memory: grows with threads and arenas; only a trend without end is a leak.",
            Unit.BYTES,
            [Query('process_virtual_memory_bytes{job="luminanet"}', "{{instance}}")],
        ),
        Panel(
            "Open files and connections",
            "Over what the process may open.",
            Unit.SHARE,
            [
                Query(
                    'process_open_fds{job="luminanet"} / process_max_fds{job="luminanet"}',
                    "{{instance}}",
                )
            ],
            limit=Limit(0.8),
        ),
        Panel(
            "How long a scrape takes",
            "What Prometheus waits for /metrics. More than a second: the server is short of CPU.",
            Unit.SECONDS,
            [Query('scrape_duration_seconds{job="luminanet"}', "{{instance}}")],
            limit=Limit(1.0),
        ),
        Panel(
            "Series of a scrape",
            "How many series a server exports: it should not grow without end.",
            Unit.COUNT,
            [Query('scrape_samples_scraped{job="luminanet"}', "{{instance}}")],
        ),
    ],
)
