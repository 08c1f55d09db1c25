"""Our dashboards -> Grafana's JSON (the classic schema, which Grafana 10 and later read), with the
builders of grafana-foundation-sdk. Same dashboards, same bytes."""

import json
from typing import TYPE_CHECKING, Any

from luminanet.errors import MissingExtraError
from monitoring.board import HIGH, LOW, Board, Kind, Limit, Panel, Query

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import bargauge, dashboard, heatmap, stat, timeseries
    from grafana_foundation_sdk.models.common import DataSourceRef

SOURCE = "datasource"
"""The variable that chooses which Prometheus is asked."""
GREEN, RED = "green", "red"


def to_json(board: Board) -> str:
    """Raises MissingExtraError without the SDK."""
    try:
        from grafana_foundation_sdk.builders import dashboard
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
    except ImportError as error:
        raise MissingExtraError("grafana-foundation-sdk", "dev") from error
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"luminanet-{board.name}")
        .description(board.description)
        .tags(["luminanet"])
        .readonly()
        .refresh("15s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable(SOURCE).label("Prometheus").type("prometheus"))
        .link(_others())
    )
    for number, panel in enumerate(board.panels, start=1):
        built = built.with_panel(_panel(panel).id(number))
    return json.dumps(built.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _others() -> "dashboard.DashboardLink":
    from grafana_foundation_sdk.builders import dashboard
    from grafana_foundation_sdk.models.dashboard import DashboardLinkType

    return (
        dashboard.DashboardLink("LuminaNet")
        .type(DashboardLinkType.DASHBOARDS)
        .tags(["luminanet"])
        .as_dropdown(True)
        .keep_time(True)
    )


def _panel(panel: Panel) -> Any:
    """A builder: each of the SDK's has these methods, but nothing in common that says so."""
    kinds = {Kind.LINES: _lines, Kind.HEAT: _heat, Kind.NUMBER: _number, Kind.BARS: _bars}
    built: Any = kinds[panel.kind](panel)
    built = (
        built.title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .span(panel.width)
        .height(panel.height)
        .datasource(_source())
    )
    for letter, query in zip("ABCDEFGHIJ", panel.queries, strict=False):
        built = built.with_target(_target(query, panel.kind, letter))
    return built.thresholds(_thresholds(panel.limit)) if panel.limit else built


def _source() -> "DataSourceRef":
    from grafana_foundation_sdk.models.common import DataSourceRef

    return DataSourceRef(type_val="prometheus", uid=f"${{{SOURCE}}}")


def _target(query: Query, kind: Kind, letter: str) -> Any:
    from grafana_foundation_sdk.builders.prometheus import Dataquery
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

    heat = kind is Kind.HEAT
    return (
        Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .ref_id(letter)
        .range()
        .format(PromQueryFormat.HEATMAP if heat else PromQueryFormat.TIME_SERIES)
    )


def _thresholds(limit: Limit) -> "dashboard.ThresholdsConfig":
    from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
    from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode

    below, above = (GREEN, RED) if limit.good == "below" else (RED, GREEN)
    steps = [Threshold(value=None, color=below), Threshold(value=limit.value, color=above)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _lines(panel: Panel) -> "timeseries.Panel":
    from grafana_foundation_sdk.builders import common, timeseries
    from grafana_foundation_sdk.models.common import (
        GraphThresholdsStyleMode,
        LegendDisplayMode,
        LegendPlacement,
        TooltipDisplayMode,
        VisibilityMode,
    )
    from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    built = (
        timeseries.Panel()
        .line_width(1)
        .show_points(VisibilityMode.NEVER)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if panel.limit:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        built = built.thresholds_style(style)
    for query in panel.bands:
        low = query.legend.removesuffix(HIGH) + LOW
        thin = DynamicConfigValue(id_val="custom.lineWidth", value=0)
        band = [
            DynamicConfigValue(id_val="custom.fillBelowTo", value=low),
            DynamicConfigValue(id_val="custom.fillOpacity", value=20),
        ]
        built = built.override_by_name(query.legend, [thin, *band]).override_by_name(low, [thin])
    return built


def _heat(panel: Panel) -> "heatmap.Panel":
    from grafana_foundation_sdk.builders import heatmap
    from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale

    colour = (
        heatmap.HeatmapColorOptions()
        .mode(HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .scale(HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
    )
    return (
        heatmap.Panel()
        .calculate(False)
        .color(colour)
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .cell_gap(1)
    )


def _number(_: Panel) -> "stat.Panel":
    from grafana_foundation_sdk.builders import common, stat
    from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueTextMode

    return (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_mode(BigValueColorMode.VALUE)
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
    )


def _bars(_: Panel) -> "bargauge.Panel":
    from grafana_foundation_sdk.builders import bargauge, common
    from grafana_foundation_sdk.models.common import BarGaugeDisplayMode, VizOrientation

    return (
        bargauge.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .display_mode(BarGaugeDisplayMode.BASIC)
        .orientation(VizOrientation.HORIZONTAL)
        .min(0)
    )
