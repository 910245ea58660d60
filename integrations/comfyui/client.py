"""A client of the longtake server: JSON, forms with files, and downloads, with the standard library alone."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT = 30.0  # seconds for an answer
PATIENCE = 60.0  # seconds for which a server that does not answer is asked again
MOST_JSON = 1 << 24  # bytes of an answer
BLOCK = 1 << 20
ENDED = ("completed", "failed")
ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class ServerError(RuntimeError):
    """What the server answered, or why it did not. status: of HTTP, 0 if there was no answer."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would carry the token to another server."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


class Client:
    """A longtake server. url: its address ("": the variable LONGTAKE_URL, else this machine).

    The token is the variable LONGTAKE_TOKEN, never part of a workflow, and is sent to the server of LONGTAKE_URL only: a
    workflow of somebody else that names another server does not get it.
    """

    def __init__(self, url: str = ""):
        own = os.environ.get("LONGTAKE_URL", "").strip() or DEFAULT_URL
        self.url = (url.strip() or own).rstrip("/").removesuffix("/v1")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerError(f"the address of a longtake server is like {DEFAULT_URL}, not {self.url!r}")
        token = os.environ.get("LONGTAKE_TOKEN", "")
        trusted = urlsplit(own)
        same = (parts.scheme, parts.netloc) == (trusted.scheme, trusted.netloc)
        self._headers = {"Authorization": f"Bearer {token}"} if token and same else {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    # ------------------------------------------------------------ videos
    def create(self, fields: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]] | None = None) -> dict[str, Any]:
        """Ask for a video. files: (name, bytes) by the name of the input."""
        return self._posted("/v1/videos", fields, files or {})

    def extend(self, id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a video that continues another one; `seconds` of fields is the length of the new part."""
        return self._posted("/v1/videos/extensions", {**fields, "video": {"id": checked_id(id)}}, {})

    def video(self, id: str) -> dict[str, Any]:
        """Return the state of a video."""
        return self._json("GET", f"/v1/videos/{checked_id(id)}")

    def stop(self, id: str) -> dict[str, Any]:
        """End a video after its current segment; what was generated is kept."""
        return self._json("POST", f"/v1/videos/{checked_id(id)}/stop")

    def followed(self, id: str, every: float = 0.25) -> Iterator[dict[str, Any]]:
        """Yield the state of a video until it has ended. A server that restarts meanwhile is waited for."""
        lost = 0.0
        while True:
            try:
                video, lost = self.video(id), 0.0
            except ServerError as error:
                if error.status and error.status < 500:
                    raise
                lost = lost or time.monotonic()
                if time.monotonic() - lost > PATIENCE:
                    raise
                video = None
            if video is not None:
                yield video
                if video.get("status") in ENDED:
                    return
            else:
                yield {"id": id, "status": "in_progress"}
            time.sleep(every)

    # ------------------------------------------------------------ files
    def save(self, id: str, path: str) -> None:
        """Write the video into a file; a part of it never gets the name."""
        part = f"{path}.part"
        try:
            with self._open("GET", f"/v1/videos/{checked_id(id)}/content") as answer, open(part, "wb") as file:
                while block := answer.read(BLOCK):
                    file.write(block)
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)

    def picture(self, id: str, variant: str) -> bytes:
        """Return a picture of a video. variant: thumbnail (JPEG), or spritesheet (the contact sheet, PNG)."""
        return self._bytes(f"/v1/videos/{checked_id(id)}/content?variant={variant}")

    def frame(self, id: str, number: int) -> bytes:
        """Return an output frame of a video, also of one that is being generated, as a small JPEG."""
        return self._bytes(f"/v1/videos/{checked_id(id)}/frames/{int(number)}")

    # ------------------------------------------------------------ HTTP
    def _posted(self, path: str, fields: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> dict[str, Any]:
        """Post fields; a request that is lost on the way is sent again, and makes one video all the same."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        body, kind = form(fields, files) if files else (json.dumps(fields).encode(), "application/json")
        for again in (True, True, False):
            try:
                return self._json("POST", path, body, {**key, "Content-Type": kind})
            except ServerError as error:
                if error.status or not again:
                    raise
                time.sleep(1)
        raise AssertionError

    def _json(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        with self._open(method, path, body, headers) as answer:
            try:
                found = json.loads(answer.read(MOST_JSON))
            except (ValueError, RecursionError) as error:
                raise ServerError(
                    f"{self.url} answered with something that is no JSON: is it a longtake server?"
                ) from error
        if not isinstance(found, dict):
            raise ServerError(f"{self.url} answered with a {type(found).__name__}: is it a longtake server?")
        return found

    def _bytes(self, path: str) -> bytes:
        with self._open("GET", path) as answer:
            return bytes(answer.read(MOST_JSON))

    def _open(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        request = urllib.request.Request(self.url + path, body, {**self._headers, **(headers or {})}, method=method)
        try:
            return self._opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                raise ServerError(_message(error), error.code) from error
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(
                f"no longtake server answers at {self.url} ({reason}): start one with `longtake serve`"
            ) from error


def checked_id(id: str) -> str:
    """Return the id of a video. ServerError for a text that is none, such as a path."""
    if not isinstance(id, str) or not ID.fullmatch(id):
        raise ServerError(f"{id!r} is not the id of a video: connect the output `video_id` of a longtake node")
    return id


def form(fields: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> tuple[bytes, str]:
    """Return the body of a form and its content type; values other than texts are written as JSON."""
    boundary = uuid.uuid4().hex
    parts = []
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value)
        parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + text.encode())
    for name, (filename, data) in files.items():
        head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: application/octet-stream'
        parts.append(f"{head}\r\n\r\n".encode() + data)
    edge = f"--{boundary}".encode()
    body = b"".join(edge + b"\r\n" + part + b"\r\n" for part in parts) + edge + b"--\r\n"
    return body, f"multipart/form-data; boundary={boundary}"


def _message(error: urllib.error.HTTPError) -> str:
    """Return the sentence of an error answer."""
    try:
        told = json.loads(error.read(MOST_JSON))["error"]
        field = f" ({told['param']})" if told.get("param") else ""
        return f"{told['message']}{field}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"the server answered {error.code} {error.reason}"
