"""A registry -> the text that Prometheus reads, in the format that its Accept header asks for."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

PLAIN, OPENMETRICS = CONTENT_TYPE_PLAIN_0_0_4, CONTENT_TYPE_LATEST


def render(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """All metrics, and their Content-Type: OpenMetrics, which has exemplars, where it is accepted,
    else plain text 0.0.4."""
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if OPENMETRICS.partition(";")[0] in kinds:
        return generate_openmetrics(registry), OPENMETRICS  # type: ignore[no-untyped-call]
    return generate_latest(registry), PLAIN
