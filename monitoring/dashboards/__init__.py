"""The dashboards: latency, advantage, traffic (and errors), engine, process.

`python -m monitoring.dashboards` (`__main__`) writes their JSON into monitoring/grafana/dashboards.
"""

from monitoring.board import Board
from monitoring.dashboards.advantage import ADVANTAGE
from monitoring.dashboards.engine import ENGINE
from monitoring.dashboards.latency import LATENCY
from monitoring.dashboards.process import PROCESS
from monitoring.dashboards.traffic import TRAFFIC

BOARDS: tuple[Board, ...] = (LATENCY, ADVANTAGE, TRAFFIC, ENGINE, PROCESS)
