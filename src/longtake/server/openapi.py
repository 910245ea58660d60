"""GET /openapi.json: the description of the API, from the routes and from the classes that check requests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.core.options import SamplingOptions, declared
from longtake.core.version import VERSION
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.settings.request import Length
from longtake.planning.strategies.registry import STRATEGIES
from longtake.runs.jobs.request import INPUT_KINDS
from longtake.server.answers import JsonAnswer

TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "None": "null"}
QUERIES: dict[str, dict[str, str]] = {
    "GET /v1/videos": {"after": "id before the first of the page", "limit": "1 to 100", "order": "asc or desc"},
    "GET /v1/videos/{id}/content": {"variant": "video, thumbnail or spritesheet", "follow": "1: until the run ends"},
    "GET /v1/videos/{id}/stream": {"from": "a time in seconds, or live"},
    "GET /v1/videos/{id}/range": {
        "from": "first frame",
        "to": "the frame behind the last",
        "format": "mp4, gif or png",
    },
    "GET /v1/events": {
        "ids": "ids of videos, with commas between",
        "last_event_id": "id of the last event that was seen",
    },
}
BODIES: dict[str, str] = {
    "POST /v1/videos": "VideoRequest",
    "POST /v1/videos/extensions": "ExtensionRequest",
    "POST /v1/videos/{id}/remix": "VideoRequest",
    "POST /v1/plan": "VideoRequest",
    "PATCH /v1/videos/{id}/script": "ScriptEdits",
    "POST /v1/videos/{id}/star": "Object",
    "POST /v1/videos/{id}/move": "Object",
    "POST /v1/scripts": "Object",
}
FILES = ("POST /v1/uploads", "POST /v1/loras", "POST /v1/inspect")  # whose bodies are forms with the field file
ENDLESS = ("GET /v1/events", "GET /v1/videos/{id}/stream")  # whose answers end with the run, or never


class OpenApi:
    """The handler of `/openapi.json`. served: all routes of the application."""

    def __init__(self, served: Sequence[Route]):
        self._served = served

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/openapi.json", self.document)]

    async def document(self, request: Request) -> Response:
        """Answer with the description of the API."""
        return JsonAnswer(described([*self._served, *self.routes()]))


def described(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of routes. The first line of a handler's docstring is its summary."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace(":path", "").replace(":int", "")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(f"{method} {path}", path, route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "longtake", "version": VERSION, "description": "Endless video over HTTP."},
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}, {}],
    }


def _operation(name: str, path: str, route: Route) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    text = {"type": "string"}
    parameters = [{"name": one, "in": "path", "required": True, "schema": text} for one in names]
    parameters += [
        {"name": one, "in": "query", "required": False, "schema": text, "description": about}
        for one, about in QUERIES.get(name, {}).items()
    ]
    error = {"description": "an error", "content": {"application/json": {"schema": _ref("Error")}}}
    operation: dict[str, Any] = {
        "summary": (route.endpoint.__doc__ or "").split("\n")[0],
        "operationId": name.lower().translate(str.maketrans(" /{}.", "_____")),
        "parameters": parameters,
        "responses": {"200": {"description": "done"}, "default": error},
    }
    if name in BODIES:
        schema = _ref(BODIES[name])
        content = {kind: {"schema": schema} for kind in ("application/json", "multipart/form-data")}
        operation["requestBody"] = {"content": content}
    if name in FILES:
        form = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]}
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return operation | ({"x-streaming": True} if name in ENDLESS else {})


@cache
def _schemas() -> dict[str, Any]:
    """Return the schemas; those of requests come from the classes that check them."""
    video: dict[str, Any] = {"type": "object", "properties": _options(), "additionalProperties": True}
    source = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"id": {"type": "string"}}}]}
    facts = {name: {"type": ["string", "null"]} for name in ("type", "code", "message", "param")}
    return {
        "VideoRequest": video,
        "ExtensionRequest": {**video, "properties": {**video["properties"], "video": source}},
        "ScriptEdits": {"type": "object", "properties": {"edits": {"type": "array", "items": {"type": "object"}}}},
        "Object": {"type": "object"},
        "Error": {"type": "object", "properties": {"error": {"type": "object", "properties": facts}}, "required": ["error"]},
    }  # fmt: skip


def _options() -> dict[str, Any]:
    """Return the fields of a request for a video."""
    found: dict[str, Any] = {
        "model": {"type": "string", "description": "a model of GET /v1/models"},
        "prompt": {"type": "string"},
        "scenes": {"type": "array", "description": "instead of a prompt: texts, or objects with prompt, seconds, cut"},
        "strategy": {"type": "string", "enum": list(STRATEGIES)},
        "loras": {"type": "array", "description": "names of GET /v1/loras, or pairs of a name and a strength"},
        "size": {"type": "string", "description": "WIDTHxHEIGHT in pixels"},
        "n": {"type": ["integer", "string"], "description": "variations, 1 to 16"},
        "input_reference": {"description": "a file, the id of an upload, or a data: URL"},
    }
    for kind in INPUT_KINDS:
        found[kind] = {"description": "a file, the id of an upload, or a data: URL"}
    for options in (Length, SamplingOptions, LoadOptions):
        for one in declared(options):
            if one.name != "device":
                found[one.name] = {**_typed(str(one.metadata["kind"] or one.type)), "description": one.metadata["help"]}
    for strategy in STRATEGIES.values():
        for option in strategy.options().values():
            found.setdefault(option.name, {"description": option.help})
    return found


def _typed(kind: str) -> dict[str, Any]:
    """Return the type of an option; text is taken for every one, since forms hold nothing else."""
    names = {TYPES[part] for part in (part.strip() for part in kind.split("|")) if part in TYPES}
    return {"type": sorted(names | {"string"})} if names else {}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
