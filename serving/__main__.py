"""`python -m serving`: settings -> socket -> models -> app -> server. Heavy imports come late."""

import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from pydantic import ValidationError
from pydantic_settings import SettingsError

from luminanet.errors import ConfigError, LuminaNetError
from serving.settings import Settings

log = logging.getLogger("luminanet.server")


def main(arguments: Sequence[str]) -> int:
    """Serves until a signal comes: 0 after a drain, 2 with one line when it cannot start."""
    settings = None
    try:
        settings = read_settings(arguments)
        serve(settings)
    except LuminaNetError as error:
        if settings and settings.log_format == "json":
            log.critical("%s", error)
        else:
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def read_settings(arguments: Sequence[str]) -> Settings:
    """Raises ConfigError."""
    try:
        return Settings(_cli_parse_args=list(arguments))  # type: ignore[call-arg]
    except SettingsError as error:
        raise ConfigError(f"{error}: see python -m serving --help") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        where = f"--{name.replace('_', '-')} (LUMINANET_{name.upper()}): " if name else ""
        raise ConfigError(f"{where}{first['msg']}") from error


def serve(settings: Settings) -> None:
    """Listens when the models are loaded and warm: until then connections are refused, as probes
    understand. Ports that are taken are told before."""
    from serving import logs
    from serving.app import create_app
    from serving.metrics.port import answering
    from serving.models.load import load_for
    from serving.server import LOOPBACK, listen, make_server

    logs.configure(settings.log_format, settings.log_level)

    def open_ports() -> list[socket.socket]:
        """The main one, and that of /metrics if it has one."""
        ports = [listen(settings.host, settings.port)]
        if settings.metrics_port is not None:
            ports.append(listen(LOOPBACK, settings.metrics_port, "--metrics-port"))
        return ports

    for port in open_ports():
        port.close()
    app = create_app(settings, load_for(settings))
    listener, *scraped = open_ports()
    with ExitStack() as open_:
        open_.enter_context(listener)
        for port in scraped:
            open_.enter_context(answering(app.state.service.metrics.registry, port))
        make_server(app, settings).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
