"""What locust reads: `locust -f loadtest/locustfile.py --host http://127.0.0.1:8000`.

As it is, closed loops of users for both models, to look at in the web page. With `--rates` an open
loop: steps of Poisson arrivals that `-u` users send; it ends by itself, with status 3 and the
reason when it refuses to report. The last tab of the web page, and `/tokens`, have the figures of
tokens.
"""

import logging
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest import entries, web
from loadtest.plan import Step, sweep
from loadtest.pool import RefusedError
from loadtest.run import POLL_S, Run
from loadtest.stall import Stall
from loadtest.users import GPT2, Closed, LuminaNet, Planned, Sender
from loadtest.workload import SHAPES, STREAMS, shape_of

log = logging.getLogger("loadtest")

__all__ = ["GPT2", "LuminaNet", "Planned"]

REFUSED = 3
"""The exit status of a run that does not report."""

entries.configure()


def add_options(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("Open loop")
    group.add_argument("--rates", default="", help="requests/s, one step each: 5,10,20")
    group.add_argument("--step-seconds", type=float, default=5.0, help="length of a step")
    group.add_argument("--repeats", type=int, default=1, help="how often each step is done")
    group.add_argument("--mixed-rate", type=float, default=0.0, help="last: all shapes, requests/s")
    group.add_argument("--seed", type=int, default=0, help="draws times and requests")
    group.add_argument("--max-lag", type=float, default=0.1, help="seconds a request may be late")
    group.add_argument("--drain", type=float, default=60.0, help="seconds a step may take to end")
    group.add_argument(
        "--give-up",
        type=float,
        default=float("inf"),
        help="when half of a step's requests take longer, in seconds, the same at this rate or a "
        "higher one is left out from then on",
    )
    group = parser.add_argument_group("Both loops")
    group.add_argument(
        "--shapes",
        default="",
        help="what an open loop sends, as 'gpt2 stream,luminanet whole'; without: streams of each "
        "model, in turns",
    )
    group.add_argument("--think", type=float, default=0.0, help="closed loop: s between requests")
    group.add_argument("--requests", type=int, default=0, help="closed loop: end after so many")
    group.add_argument("--stop-pid", type=int, default=0, help="a server to stop for a while")
    group.add_argument("--stop-after", type=float, default=1.0, help="s from the first request")
    group.add_argument("--stop-for", type=float, default=2.0, help="s until it goes on")
    group.add_argument("--samples", default="", help="file that gets every sample, as JSON")


def steps_of(options: Namespace) -> list[Step]:
    """The steps that the options ask for. Raises ValueError."""
    rates = [float(rate) for rate in options.rates.split(",") if rate.strip()]
    mixed = tuple(name.strip() for name in options.shapes.split(",") if name.strip())
    for name in mixed:
        shape_of(name)
    steps = sweep([mixed] if mixed else STREAMS, rates, options.step_seconds, options.repeats)
    if options.mixed_rate:
        everything = [
            Step(tuple(SHAPES), options.mixed_rate, options.step_seconds, repeat)
            for repeat in range(options.repeats)
        ]
        steps += everything
    return steps


def begin(environment: Environment, **_: Any) -> None:
    """Makes the run, and lets only users of its kind start."""
    options = environment.parsed_options
    assert options is not None
    try:
        steps = steps_of(options)
    except ValueError as error:
        log.error("%s", error)
        raise SystemExit(2) from error
    Sender.load = Run(
        steps,
        options.seed,
        options.max_lag,
        options.drain,
        options.give_up,
        options.requests or math.inf,
        Stall(options.stop_pid, options.stop_after, options.stop_for) if options.stop_pid else None,
    )
    kind = Planned if steps else Closed
    environment.user_classes[:] = [c for c in environment.user_classes if issubclass(c, kind)]
    if environment.web_ui:
        web.extend(environment)
    drive = _drive if steps else _watch
    environment.events.spawning_complete.add_listener(
        lambda user_count, **_: gevent.spawn(drive, environment, user_count)
    )


def _drive(environment: Environment, users: int) -> None:
    Sender.load.drive(users)
    if Sender.load.refused:
        log.error("no report: %s", Sender.load.refused)
    _stop(environment)


def _watch(environment: Environment, _users: int) -> None:
    Sender.load.begin()
    while not Sender.load.over:
        gevent.sleep(POLL_S)
    _stop(environment)


def _stop(environment: Environment) -> None:
    assert environment.runner is not None
    if environment.web_ui:
        environment.runner.stop()
    else:
        environment.runner.quit()


def end(environment: Environment, **_: Any) -> None:
    """Writes the samples, or says why there are none to be had."""
    try:
        recording = Sender.load.recording()
    except RefusedError as why:
        log.error("no report: %s", why)
        environment.process_exit_code = REFUSED
        return
    assert environment.parsed_options is not None
    if environment.parsed_options.samples:
        recording.write(Path(environment.parsed_options.samples))
    environment.process_exit_code = 0


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(begin)
events.quitting.add_listener(end)
