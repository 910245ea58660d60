"""The errors of the HTTP API: one envelope, `{"error": {"type", "code", "message", "param"}}`, which the `openai` package reads."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from longtake.core.errors import LongtakeError

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    416: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    507: "insufficient_storage_error",
}  # the error types by status
NO_RETRY = {"x-should-retry": "false"}  # the `openai` package repeats 409 and 503 by itself, without an idempotency key


class ApiError(LongtakeError):
    """A request that is answered with an error.

    status: of HTTP. code: a fixed word for programs. param: the field of the request that is at fault. headers: further
    ones. Every 409 tells clients not to repeat the request by themselves.
    """

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ):
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers = {**(NO_RETRY if status == 409 else {}), **(headers or {})}


def error_response(error: ApiError) -> Response:
    """Return the answer of an error."""
    kind = TYPES.get(error.status, "server_error")
    facts = {"type": kind, "code": error.code, "message": error.message, "param": error.param}
    return JSONResponse({"error": facts}, error.status, error.headers)


def on_api_error(request: Request, error: Exception) -> Response:
    """Answer a request that raised an ApiError; for the exception handlers of the application."""
    assert isinstance(error, ApiError)
    return error_response(error)


def on_http_error(request: Request, error: Exception) -> Response:
    """Answer a path that no route has, and a method that its route does not have."""
    status, headers = getattr(error, "status_code", 500), getattr(error, "headers", None)
    if status == 404:
        return error_response(ApiError(404, "not_found", f"There is no route {request.scope['path']}.", None, headers))
    if status == 405:
        method, path = request.scope["method"], request.scope["path"]
        message = f"{path} does not take {method}: use {(headers or {}).get('Allow', 'another method')}."
        return error_response(ApiError(405, "method_not_allowed", message, None, headers))
    return error_response(ApiError(status, "http_error", str(getattr(error, "detail", error)), None, headers))


def on_failure(request: Request, error: Exception) -> Response:
    """Answer a request in which the server failed; the traceback is in its log, never in the answer."""
    message = "The server failed at this request; its log holds the traceback."
    return error_response(ApiError(500, "internal_error", message))
