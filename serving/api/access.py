"""Who may ask, and how often: pure ASGI middleware. Everything needs a key but what is open."""

import math
from collections.abc import Callable
from time import monotonic

from starlette._utils import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.answers import answer
from serving.errors import RateLimitError, UnauthorizedError
from serving.keys import Keys

PROBES = frozenset(
    {
        *("/health", "/health/startup", "/health/live", "/health/ready"),
        *("/v2/health/live", "/v2/health/ready"),
    }
)
"""They have no key, and learn nothing but whether the server works."""
SCHEME = b"bearer"


class Bucket:
    """A token bucket: `rate` requests a second, and as many at once (one at least)."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._size = self._left = max(1.0, rate)
        self._seen_s = clock()

    def wait_s(self) -> float:
        """Takes one; 0, or how long it takes until there is one."""
        now_s = self._clock()
        self._left = min(self._size, self._left + (now_s - self._seen_s) * self._rate)
        self._seen_s = now_s
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class Access:
    """Answers 401 without a known key in `Authorization: Bearer`, 429 to one that asks too often;
    `rate` is in requests a second for each key, 0 for any; `guards` says which paths need one."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        rate: float,
        guards: Callable[[str], bool] = lambda path: path not in PROBES,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._app = app
        self._keys = keys
        self._guards = guards
        self._buckets = [Bucket(rate, clock) for _ in range(len(keys))] if rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http" and self._guards(get_route_path(scope)):
            refusal = self._refusal(scope)
        if refusal:
            await answer(refusal, get_route_path(scope))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> UnauthorizedError | RateLimitError | None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = (given[0] if len(given) == 1 else b"").partition(b" ")
        if scheme.lower() != SCHEME:
            return UnauthorizedError(
                "this server needs a key: send Authorization: Bearer KEY", "Authorization"
            )
        number = self._keys.find(key.strip())
        if number is None:
            return UnauthorizedError("this key is not known here", "Authorization")
        wait_s = self._buckets[number].wait_s() if self._buckets else 0
        if wait_s:
            return RateLimitError("this key asks too often: come back later", math.ceil(wait_s))
        return None
