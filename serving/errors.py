"""Every error a client can meet, and the one table from its class to an HTTP status."""

from luminanet.errors import LuminaNetError

RETRY_AFTER_S = 1
"""At least, and where nothing better is known."""


class ApiError(LuminaNetError):
    """An answer that is an error. `param` names the field to mend, where there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BodyError(ApiError):
    """The body is not JSON, or not a form."""


class ProtocolError(ApiError):
    """Bytes that are no request of HTTP/1.1."""


class SlowClientError(ApiError):
    """A request that did not come in time."""


class HeadersTooLargeError(ApiError):
    """A request's line and headers have more bytes than the server reads."""


class PathError(ApiError):
    """There is no such path."""


class MethodError(ApiError):
    """The path does not take this method."""


class ModelNotLoadedError(ApiError):
    """A known model that this server did not load."""


class BodyTooLargeError(ApiError):
    """More bytes than the server reads."""


class MediaTypeError(ApiError):
    """A Content-Type or Content-Encoding that the path does not read."""


class ReloadRunningError(ApiError):
    """Another reload is not done yet."""


class ReloadError(ApiError):
    """What is to be served from now on cannot be loaded; what was served still is."""


class RequestError(ApiError):
    """A field that is missing, unknown, of another type or out of range."""


class ImageError(ApiError):
    """Bytes that are no acceptable picture."""


class UnauthorizedError(ApiError):
    """No API key, or one that is not known."""


class LaterError(ApiError):
    """The same request may be answered after so many seconds."""

    def __init__(self, message: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitError(LaterError):
    """A key that asks more often than it may."""


class OverloadedError(LaterError):
    """The queue is full."""


class ShuttingDownError(LaterError):
    """No new work is accepted."""


class UnavailableError(LaterError):
    """Not yet, or no longer, able to answer."""


class ClientGoneError(ApiError):
    """Nobody is left to answer."""


class DeadlineError(ApiError):
    """It took longer than the server gives a request."""


class InternalError(ApiError):
    """Our fault."""


STATUS: dict[type[ApiError], tuple[int, str]] = {
    BodyError: (400, "malformed_body"),
    ProtocolError: (400, "malformed_request"),
    UnauthorizedError: (401, "unauthorized"),
    PathError: (404, "unknown_path"),
    ModelNotLoadedError: (404, "model_not_loaded"),
    MethodError: (405, "wrong_method"),
    SlowClientError: (408, "request_timeout"),
    ReloadRunningError: (409, "reload_running"),
    BodyTooLargeError: (413, "body_too_large"),
    MediaTypeError: (415, "unsupported_media_type"),
    RequestError: (422, "invalid_request"),
    ImageError: (422, "invalid_image"),
    ReloadError: (422, "reload_failed"),
    OverloadedError: (429, "overloaded"),
    RateLimitError: (429, "rate_limited"),
    HeadersTooLargeError: (431, "headers_too_large"),
    ClientGoneError: (499, "client_gone"),
    InternalError: (500, "internal_error"),
    ShuttingDownError: (503, "shutting_down"),
    UnavailableError: (503, "unavailable"),
    DeadlineError: (504, "deadline_exceeded"),
}


def status(error: ApiError) -> int:
    return STATUS[type(error)][0]


def body(error: ApiError) -> dict[str, dict[str, str | None]]:
    """The JSON of the error: {"error": {"type", "message", "param"}}."""
    kind = STATUS[type(error)][1]
    return {"error": {"type": kind, "message": error.message, "param": error.param}}


def headers(error: ApiError) -> dict[str, str]:
    match error:
        case UnauthorizedError():
            return {"WWW-Authenticate": 'Bearer realm="luminanet"'}
        case LaterError():
            return {"Retry-After": str(error.retry_after_s)}
    return {}
