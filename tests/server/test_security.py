"""The security classes of the field: each test fails on the behaviour of the peer that its docstring names."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketDisconnect

from longtake.core.errors import SettingsError
from longtake.server.body_limit import BodyLimit
from longtake.server.errors import ApiError, on_api_error
from longtake.server.security import Access, Guard, check_exposure

TOKEN = "0123456789abcdef0123456789abcdef"


async def echo(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse({"path": request.scope["path"], "bytes": len(body)})


async def socket(websocket) -> None:
    await websocket.accept()
    await websocket.send_text("open")


OPEN = Access()


def app(access: Access = OPEN, most: int = 1000, slowest: float = 5):
    routes = [
        Route("/", echo),
        Route("/health", echo),
        Route("/v1/videos", echo, methods=["GET", "POST", "DELETE"]),
        WebSocketRoute("/ws", socket),
    ]
    inner = Starlette(routes=routes, exception_handlers={ApiError: on_api_error})
    return Guard(BodyLimit(inner, lambda scope: most, slowest), access)


def client(access: Access = OPEN, base: str = "http://127.0.0.1:8000", **options) -> TestClient:
    return TestClient(app(access, **options), base_url=base, follow_redirects=False)


def code(response) -> str:
    return response.json()["error"]["code"]


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST:8000", "localhost"])
    def test_loopback_names_are_answered(self, host):
        assert client().get("/v1/videos", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize("host", ["evil.test:8000", "evil.test", "127.0.0.1.evil.test", "localhost.evil.test:8000"])
    def test_a_rebound_name_is_refused_without_origin(self, host):
        """Ollama CVE-2024-28224: a page whose name was bound to 127.0.0.1 reads everything."""
        refused = client().get("/v1/videos", headers={"host": host})
        assert (refused.status_code, code(refused)) == (403, "host_not_allowed")
        assert "--allowed-host" in refused.json()["error"]["message"]

    def test_host_and_origin_of_the_attacker_agree(self):
        """ComfyUI#12860 compares Host with Origin: after rebinding both are the attacker's."""
        headers = {"host": "evil.test:8000", "origin": "http://evil.test:8000"}
        assert code(client().post("/v1/videos", headers=headers)) == "host_not_allowed"

    def test_an_allowed_host_is_answered(self):
        access = Access(allowed_hosts=("video.example", "inner.example:9000"))
        for host, status in (("video.example", 200), ("video.example:81", 200), ("inner.example:9000", 200),
                             ("inner.example", 403), ("other.video.example", 403)):  # fmt: skip
            assert client(access).get("/v1/videos", headers={"host": host}).status_code == status, host

    @pytest.mark.parametrize(
        "host", ["", "localhost/v1", "localhost/..?x=", "user@localhost", "localhost:99999999", "a b"]
    )
    def test_a_host_that_is_none_is_refused(self, host):
        """Starlette CVE-2026-48710: a Host header with a path changes request.url."""
        assert code(client().get("/v1/videos", headers={"host": host})) == "invalid_host"

    def test_two_hosts_are_refused(self):
        messages = asyncio.run(raw([(b"host", b"localhost"), (b"host", b"evil.test")]))
        assert messages[0]["status"] == 400

    def test_the_route_is_not_reached(self):
        assert code(client().get("/no/such/route", headers={"host": "evil.test"})) == "host_not_allowed"


async def raw(headers, path="/v1/videos", method="GET", parts=(b"",), access=OPEN, **options):
    """Call the application without a client, which would mend the headers; return what it sends."""
    sent, queue = (
        [],
        [{"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)],
    )
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
             "raw_path": path.encode(), "query_string": b"", "headers": headers, "scheme": "http", "server": ("127.0.0.1", 8000),
             "client": ("127.0.0.1", 1), "root_path": ""}  # fmt: skip

    async def receive():
        return queue.pop(0) if queue else await asyncio.sleep(1000)

    async def send(message):
        sent.append(message)

    await app(access, **options)(scope, receive, send)
    return sent


class TestOrigin:
    @pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "https://127.0.0.1:8000"])
    def test_the_own_page_may_send(self, origin):
        headers = {"origin": origin, "sec-fetch-site": "same-origin"}
        assert client().post("/v1/videos", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.test", "null", "http://localhost:3000", "http://127.0.0.1:8000.evil.test", "file://", ""],
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_another_page_may_not(self, origin, method):
        """ComfyUI CVE-2024-10481, and CVE-2026-56674: the fix let `Origin: null` of a sandboxed frame pass."""
        refused = client().request(method, "/v1/videos", headers={"origin": origin})
        assert (refused.status_code, code(refused)) == (403, "origin_not_allowed")

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "strange"])
    def test_a_cross_site_get_without_origin_is_refused(self, site):
        """A cross-site GET (an image, a media element) carries no Origin, only Sec-Fetch-Site."""
        assert code(client().get("/v1/videos", headers={"sec-fetch-site": site})) == "site_not_allowed"

    def test_a_link_may_open_the_page_and_nothing_else(self):
        opened = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        assert client().get("/", headers=opened).status_code == 200
        assert client().get("/v1/videos", headers=opened).status_code == 403
        assert client().get("/", headers={**opened, "sec-fetch-dest": "iframe"}).status_code == 403

    def test_a_cross_site_websocket_is_closed(self):
        """WebSockets ignore CORS and carry no Sec-Fetch-Site."""
        for headers in ({"origin": "http://evil.test"}, {"origin": "null"}, {"host": "evil.test"}):
            refused = pytest.raises((WebSocketDisconnect, WebSocketDenialResponse))
            with refused, client().websocket_connect("/ws", headers=headers):
                pass
        with client().websocket_connect("/ws", headers={"host": "127.0.0.1:8000"}) as websocket:
            assert websocket.receive_text() == "open"


class TestToken:
    access = Access(TOKEN, 8000)

    def test_programs_send_a_bearer_token(self):
        assert client(self.access).get("/v1/videos", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200

    @pytest.mark.parametrize(
        "given", ["", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xff"]
    )
    def test_other_tokens_are_refused(self, given):
        """175,000 open Ollama hosts: nothing asked for a token."""
        refused = client(self.access).get("/v1/videos", headers={"authorization": given.encode("latin-1")})
        assert (refused.status_code, code(refused)) == (401, "invalid_token")
        assert refused.headers["www-authenticate"] == "Bearer"

    def test_health_needs_none(self):
        assert client(self.access).get("/health").status_code == 200

    def test_the_printed_address_sets_a_cookie_once(self):
        browser = client(self.access)
        answer = browser.get(f"/?token={TOKEN}&tab=2")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?tab=2")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and TOKEN not in cookie
        assert browser.get("/v1/videos").status_code == 200

    def test_a_token_in_the_address_opens_no_route(self):
        assert client(self.access).get(f"/v1/videos?token={TOKEN}").status_code == 401
        assert client(self.access).get("/?token=wrong").status_code == 401

    @pytest.mark.parametrize(
        "cookie", ["longtake_8000=", "longtake_8000=0", f"longtake_8000={TOKEN}", "\x01;;=", "a=b"]
    )
    def test_other_cookies_are_refused(self, cookie):
        assert client(self.access).get("/v1/videos", headers={"cookie": cookie}).status_code == 401

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu.example"])
    def test_an_open_address_needs_a_long_token(self, host):
        with pytest.raises(SettingsError, match="needs a token"):
            check_exposure(host, None)
        with pytest.raises(SettingsError, match="others can guess it"):
            check_exposure(host, "short")
        check_exposure(host, TOKEN)

    def test_loopback_needs_none(self):
        for host in ("127.0.0.1", "localhost", "::1"):
            check_exposure(host, None)


class TestHeaders:
    @pytest.mark.parametrize(("path", "host"), [("/", "localhost"), ("/none", "localhost"), ("/", "evil.test")])
    def test_every_answer_carries_them(self, path, host):
        """ComfyUI CVE-2026-56670: an uploaded SVG ran as a page of the server."""
        headers = client().get(path, headers={"host": host}).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


class TestBodies:
    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json, text/plain", "", "text/json"]
    )
    def test_other_types_are_refused(self, kind):
        """Starlette CVE-2026-54283: the limits of forms were ignored for urlencoded ones; text/plain needs no preflight."""
        refused = client().post("/v1/videos", content=b'{"prompt": "a"}', headers={"content-type": kind})
        assert (refused.status_code, code(refused)) == (415, "unsupported_media_type")

    @pytest.mark.parametrize(
        "kind", ["application/json", "Application/JSON; charset=utf-8", "multipart/form-data; boundary=x"]
    )
    def test_json_and_forms_pass(self, kind):
        assert client().post("/v1/videos", content=b"{}", headers={"content-type": kind}).status_code == 200

    def test_an_empty_body_has_any_type(self):
        """The `openai` package sends DELETE without a body, and application/json."""
        deleted = client().delete("/v1/videos", headers={"content-type": "application/json"})
        assert deleted.status_code == 200
        assert client().post("/v1/videos").status_code == 200

    JSON = ((b"host", b"localhost"), (b"content-type", b"application/json"))

    @pytest.mark.parametrize("length", [None, b"5", b"1001", b"9" * 400])
    def test_bytes_are_counted_whatever_the_length_says(self, length):
        """Starlette CVE-2024-47874: the memory of a form grew with its body."""
        headers = [*self.JSON, (b"content-length", length) if length else (b"transfer-encoding", b"chunked")]
        messages = asyncio.run(raw(headers, method="POST", parts=[b"x" * 400] * 3))
        assert messages[0]["status"] == 413
        exact = asyncio.run(raw([*self.JSON, (b"content-length", b"1000")], method="POST", parts=[b"x" * 500] * 2))
        assert exact[0]["status"] == 200

    def test_a_body_that_stops_is_ended(self):
        async def stalled():
            sent = []

            async def receive():
                await asyncio.sleep(1000)

            async def send(message):
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/v1/videos", "query_string": b"", "scheme": "http",
                     "headers": [*self.JSON, (b"content-length", b"10")]}  # fmt: skip
            await app(slowest=0.05)(scope, receive, send)
            return sent

        assert asyncio.run(stalled())[0]["status"] == 408
