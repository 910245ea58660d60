"""The routes of the page: static files, without a build step, the same for every user."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.server.errors import ApiError

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".LICENSE": "text/plain; charset=utf-8",
}  # the files that are served, by suffix


@cache
def files() -> dict[str, Path]:
    """Return the files of the page by their path under `static/`. A request can name nothing else."""
    found = sorted(path for path in STATIC.rglob("*") if path.is_file() and path.suffix in TYPES)
    return {path.relative_to(STATIC).as_posix(): path for path in found}


def page_routes() -> list[Route]:
    """Return the routes `/` and `/static/...`."""
    return [Route("/", _index), Route("/static/{path:path}", _static)]


async def _index(request: Request) -> Response:
    return _answer(request, "index.html")


async def _static(request: Request) -> Response:
    return _answer(request, request.path_params["path"])


def _answer(request: Request, name: str) -> Response:
    """Answer with a file; 304 if the browser has it. Browsers ask every time, so a new version shows at once."""
    path = files().get(name)
    if path is None:
        raise ApiError(404, "not_found", f"The page has no file {name!r}.")
    data = path.read_bytes()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"cache-control": "no-cache", "etag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(data, 200, {**headers, "content-type": TYPES[path.suffix]})
