"""uvicorn that drains on SIGTERM or SIGINT and then exits with status 0.

uvicorn alone waits for open streams without end, and tells the application of a shutdown only
after that. Here a signal first drains the service, with connections open: /health/ready answers
503, new work is refused, running requests end within the grace period or are ended with a last
frame. Then uvicorn shuts down as usual. A second signal ends everything at once. On SIGHUP the
artifacts are loaded anew.
"""

import asyncio
import logging
import signal
import socket
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from luminanet.errors import ConfigError
from serving.protocol import Limits, bounded, origin_form
from serving.service import Service
from serving.settings import Settings

log = logging.getLogger("luminanet.server")

BACKLOG = 2048
LOOPBACK = "127.0.0.1"
PROXIES = [LOOPBACK, "::1"]
"""Whose X-Forwarded-For is believed, for the log."""
EVERY = ("::", "")
LAST_BYTES_S = 5
"""How long clients may take to read what is left after the drain."""


class DrainingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, _sig: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._reload_on_hangup()
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            log.info("ready on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    def _reload_on_hangup(self) -> None:
        """Where the system has the signal, and this is the thread that gets it."""
        if hasattr(signal, "SIGHUP") and current_thread() is main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._service.begin_reload)

    async def main_loop(self) -> None:
        await super().main_loop()
        await self._service.drain(hurry=lambda: self.force_exit)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves the application as it is, which ends in a traceback
            await self.lifespan.shutdown()


def make_server(app: FastAPI, settings: Settings) -> DrainingServer:
    limits = Limits(settings.max_header_bytes, settings.header_seconds, settings.body_seconds)
    config = uvicorn.Config(
        origin_form(app),
        http=bounded(limits),
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_keep_alive=settings.keep_alive_seconds,
        ws="none",
        lifespan="on",
        log_config=None,  # its lines are ours to format (logs.py), and so are those of requests
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=LAST_BYTES_S,
        workers=1,  # else WEB_CONCURRENCY and FORWARDED_ALLOW_IPS are read
        forwarded_allow_ips=PROXIES,
    )
    return DrainingServer(config, app.state.service)


def listen(host: str, port: int, options: str = "--host or --port") -> socket.socket:
    """A listening socket; `options` set its address. "::" and "" stand for every address, of IPv6
    and IPv4. Raises ConfigError when it cannot be had."""
    try:
        if host in EVERY:
            return _listen_everywhere(port)
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host (IDNA)
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ConfigError(
            f"cannot listen on {host}:{port}: {reason}: choose another {options}"
        ) from error


def _listen_everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        both: dict[str, Any] = {"family": socket.AF_INET6, "dualstack_ipv6": True}
        return socket.create_server(("::", port), backlog=BACKLOG, **both)
    log.warning("this system has no sockets for IPv6 and IPv4 at once: listening on IPv4 alone")
    return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)
