"""A stand-in for the Hugging Face hub on a real socket: one repository, whose files it sends as slowly as a test says."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """files: of the repository, by name. held: files that are sent to their half only, until `release`. sent: files asked for."""

    def __init__(self, repo: str, files: Mapping[str, bytes]):
        self.repo, self.files, self.commit = repo, dict(files), COMMIT
        self.held: set[str] = set()
        self.sent: list[str] = []
        self.revisions: list[str] = []
        self.sizes: dict[str, int] = {}  # sizes that are stated, if other than the true ones
        self._go = threading.Event()

    def release(self) -> None:
        """Send the held files to their end."""
        self._go.set()

    def document(self, path: str) -> object | None:
        """Return what the API of the hub answers; None for other paths."""
        if path.startswith(f"/api/models/{self.repo}/tree/"):
            return [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
            ]
        if path.startswith(f"/api/models/{self.repo}"):
            self.revisions.append(path.partition("/revision/")[2])
            siblings = [{"rfilename": n, "size": self.sizes.get(n, len(d))} for n, d in self.files.items()]
            card = {"license": "apache-2.0"}
            return {"id": self.repo, "sha": self.commit, "siblings": siblings, "cardData": card, "tags": []}
        return None


@contextmanager
def served_hub(hub: Hub) -> Iterator[str]:
    """Serve a hub; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            found = hub.document(path)
            if found is not None:
                return self._send(json.dumps(found).encode(), {"Content-Type": "application/json"}, body)
            name = path.removeprefix(f"/{hub.repo}/resolve/{hub.commit}/")
            if name not in hub.files:
                return self._send(b"", {"X-Error-Code": "RepoNotFound"}, body, 404)
            data = hub.files[name]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": hub.commit}
            if body:
                hub.sent.append(name)
            self._send(data, headers, body, held=name in hub.held)

        def _send(
            self, data: bytes, headers: dict[str, str], body: bool, status: int = 200, held: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not body:
                return
            half = len(data) // 2
            try:
                self.wfile.write(data[:half])
                self.wfile.flush()
                if held:
                    hub._go.wait(60)
                self.wfile.write(data[half:])
            except OSError:  # the downloader was killed
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        hub.release()
        server.shutdown()
        server.server_close()


def until(condition, seconds: float = 60.0):
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found
