"""Who may call the server: the hosts that it answers to, the pages that may send requests, and its token.

Everything is decided on the ASGI scope (path and headers) before a route is looked for. Browsers are the danger of a server
on the own machine: a page of any site can send requests to it, and after DNS rebinding can read the answers.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake.core.errors import SettingsError
from longtake.server.errors import ApiError, error_response

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")  # names that the system itself resolves, so no DNS server can claim them
HOST = re.compile(r"(?P<name>[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
SHORTEST_TOKEN = 16  # characters, where others than this machine can reach the server
BODY_TYPES = ("application/json", "multipart/form-data")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "font-src 'self'; "
    "connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}  # sent with every answer


@dataclass(frozen=True)
class Access:
    """Who may call. token: what every request must show, None for no token. port: that the server listens on.

    allowed_hosts: names, or name:port, under which the server is reached beside those of the loopback interface.
    pages: paths that a browser may open from a link on another site, since a GET of them changes nothing.
    public: paths that need no token.
    """

    token: str | None = None
    port: int = 0
    allowed_hosts: tuple[str, ...] = ()
    pages: frozenset[str] = frozenset({"/"})
    public: frozenset[str] = frozenset({"/health"})

    @property
    def cookie(self) -> str:
        """The name of the cookie, with the port in it, since browsers share cookies between the ports of a host."""
        return f"longtake_{self.port}"

    @property
    def cookie_value(self) -> str:
        """What the cookie holds: a value that the token gives, and that does not give the token."""
        return hmac.new((self.token or "").encode(), b"longtake cookie", hashlib.sha256).hexdigest()


def check_exposure(host: str, token: str | None) -> None:
    """Raise SettingsError if a server on this address could be used by others than the users of this machine."""
    if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise SettingsError("--token must be visible ASCII characters without spaces")
    if host in ("127.0.0.1", "localhost", "::1", "[::1]"):
        return
    if token is None:
        raise SettingsError(
            f"--host {host} lets other machines reach this server, so it needs a token: give --token with at least "
            f"{SHORTEST_TOKEN} random characters, such as the output of `openssl rand -hex 16`"
        )
    if len(token) < SHORTEST_TOKEN:
        raise SettingsError(
            f"--token has {len(token)} characters, and with --host {host} others can guess it: give at least "
            f"{SHORTEST_TOKEN} random ones, such as the output of `openssl rand -hex 16`"
        )


def own_names(host: str) -> tuple[str, ...]:
    """Return the Host names that belong to the address of `--host`; none for an address that stands for all of them."""
    if host in ("0.0.0.0", "::", "[::]", ""):
        return ()
    return (f"[{host}]" if ":" in host and not host.startswith("[") else host,)


class Guard:
    """ASGI middleware that refuses what `Access` does not allow, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        try:
            _check_host(scope, self.access)
            _check_origin(scope, self.access)
            if answer := _first_visit(scope, self.access):
                await answer(scope, receive, _with_headers(send))
                return
            _check_token(scope, self.access)
            _check_body_type(scope)
        except ApiError as error:
            await _refuse(error, scope, receive, send)
            return
        await self.app(scope, receive, _with_headers(send))


def header(scope: Scope, name: str) -> str | None:
    """Return the value of a request header, None if it is missing. Raises ApiError if it is given twice."""
    values = [value for key, value in scope["headers"] if key == name.encode()]
    if len(values) > 1:
        raise ApiError(400, "invalid_header", f"The request has {len(values)} headers {name}: send one.")
    return values[0].decode("latin-1") if values else None


def _check_host(scope: Scope, access: Access) -> None:
    """Refuse other hosts: the page of a rebound name sends neither Origin nor Sec-Fetch-Site, so only Host shows it."""
    host = (header(scope, "host") or "").lower()
    found = HOST.fullmatch(host)
    if found is None:
        raise ApiError(400, "invalid_host", "The request has no valid Host header.")
    names = (*LOOPBACK, *(name.lower() for name in access.allowed_hosts))
    if found["name"] not in names and host not in names:
        raise ApiError(
            403,
            "host_not_allowed",
            f"This server does not answer to the host {host}: start it with --allowed-host {found['name']}.",
        )


def _check_origin(scope: Scope, access: Access) -> None:
    """Refuse requests that a page of another site caused. Programs send neither header."""
    origin, site = header(scope, "origin"), header(scope, "sec-fetch-site")
    host = (header(scope, "host") or "").lower()
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        raise ApiError(403, "origin_not_allowed", "This server takes no requests from pages of another origin.")
    if site in (None, "same-origin", "none"):
        return
    opened = (header(scope, "sec-fetch-mode"), header(scope, "sec-fetch-dest")) == ("navigate", "document")
    if not (opened and scope.get("method") == "GET" and scope["path"] in access.pages):
        raise ApiError(403, "site_not_allowed", "This server takes no requests that a page of another site caused.")


def _first_visit(scope: Scope, access: Access) -> Response | None:
    """Return the answer to the printed address, ?token=...: it sets the cookie and drops the token from the address."""
    if access.token is None or scope.get("method") != "GET" or scope["path"] not in access.pages:
        return None
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    given = next((value for name, value in query if name == "token"), None)
    if given is None:
        return None
    if not _equal(given, access.token):
        raise _no_token("The token in the address is not the one of this server")
    rest = urlencode([(name, value) for name, value in query if name != "token"])
    answer = RedirectResponse(scope["path"] + (f"?{rest}" if rest else ""), 303, {"cache-control": "no-store"})
    secure = scope["scheme"] == "https"
    answer.set_cookie(access.cookie, access.cookie_value, httponly=True, samesite="strict", secure=secure)
    return answer


def _check_token(scope: Scope, access: Access) -> None:
    if access.token is None or scope["path"] in access.public:
        return
    scheme, _, given = (header(scope, "authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and _equal(given.strip(), access.token):
        return
    try:
        cookies = SimpleCookie(header(scope, "cookie") or "")
    except CookieError:
        cookies = SimpleCookie()
    cookie = cookies.get(access.cookie)
    if cookie is None or not _equal(cookie.value, access.cookie_value):
        raise _no_token("This server needs its token")


def _no_token(problem: str) -> ApiError:
    message = f"{problem}: send the header `Authorization: Bearer TOKEN`, or open the address that the server printed."
    return ApiError(401, "invalid_token", message, None, {"www-authenticate": "Bearer"})


def _equal(given: str, expected: str) -> bool:
    """Compare in a time that does not depend on where the texts differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def _check_body_type(scope: Scope) -> None:
    """Refuse bodies of other types: a form or text/plain needs no leave of the browser, so any site may send it."""
    length, chunked = header(scope, "content-length"), header(scope, "transfer-encoding")
    if scope.get("method") not in ("POST", "PUT", "PATCH") or (length in (None, "0") and not chunked):
        return
    given = (header(scope, "content-type") or "").partition(";")[0].strip().lower()
    if given not in BODY_TYPES:
        what = f"of type {given}" if given else "without a Content-Type"
        message = f"This server takes no body {what}: send JSON as application/json, or multipart/form-data."
        raise ApiError(415, "unsupported_media_type", message)


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await error_response(error)(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sender
