"""The models and LoRAs of the server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.core.errors import InputError
from longtake.core.platform import delete_file, replace_file
from longtake.models.checkpoints.convert import convert
from longtake.models.family import ReleasedCheckpoint
from longtake.models.registry import presets
from longtake.server.answers import JsonAnswer
from longtake.server.downloads.downloads import Downloads
from longtake.server.errors import ApiError
from longtake.server.requests.catalogue import Catalogue
from longtake.server.requests.model_files import is_lora
from longtake.server.requests.uploads.inputs import copy_part
from longtake.server.requests.uploads.kinds import HEAD, LORA, PICKLE, kind_of


class Models:
    """The handlers of `/v1/models` and `/v1/loras`."""

    def __init__(self, catalogue: Catalogue, downloads: Downloads):
        self.catalogue, self.downloads = catalogue, downloads

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/models", self.list),
            Route("/v1/models/{id:path}", self.retrieve),
            Route("/v1/models/{id:path}/download", self.download, methods=["POST"]),
            Route("/v1/models/{id:path}/download", self.stop_download, methods=["DELETE"]),
            Route("/v1/loras", self.loras),
            Route("/v1/loras", self.add_lora, methods=["POST"]),
            Route("/v1/loras/{id}", self.delete_lora, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """List the models: their sizes, memory and licences, and whether they are here."""
        return JsonAnswer(_listed(await asyncio.to_thread(self._models)))

    async def retrieve(self, request: Request) -> Response:
        """Return a model."""
        return JsonAnswer(await asyncio.to_thread(self._model, request.path_params["id"]))

    async def download(self, request: Request) -> Response:
        """Download a released checkpoint that is not here, or continue that; returns the model."""
        return JsonAnswer(await asyncio.to_thread(self._changed, request.path_params["id"], self.downloads.start))

    async def stop_download(self, request: Request) -> Response:
        """Stop a download; its complete files stay, for the next one. Returns the model."""
        return JsonAnswer(await asyncio.to_thread(self._changed, request.path_params["id"], self.downloads.stop))

    def _models(self) -> Sequence[dict[str, Any]]:
        known = presets()
        return [
            one | self.downloads.facts(known[one["id"]]) if one["id"] in known and not one["here"] else one
            for one in self.catalogue.models()
        ]

    def _model(self, name: str) -> dict[str, Any]:
        found = next((one for one in self._models() if one["id"] == name), None)
        if found is None:
            raise ApiError(404, "model_not_found", f"This server has no model {name[:200]!r}.", "model")
        return found

    def _changed(self, name: str, change: Callable[[ReleasedCheckpoint], None]) -> dict[str, Any]:
        """Change the download of a preset. Nothing happens to other models, which are here."""
        found = self._model(name)
        if name in presets() and "download" in found:
            change(presets()[name])
        return self._model(name)

    async def loras(self, request: Request) -> Response:
        """List the LoRAs of the folders, and those that were sent."""
        return JsonAnswer(_listed(await asyncio.to_thread(self.catalogue.loras)))

    async def add_lora(self, request: Request) -> Response:
        """Keep a LoRA file; a pickle is converted in a process of its own, and never opened in this one."""
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise ApiError(400, "missing_field", "A LoRA is sent as the field file of a form.", "file")
        try:
            async with request.form(max_files=1, max_fields=10) as form:
                part = form.get("file")
                if not isinstance(part, UploadFile):
                    raise ApiError(400, "missing_field", "A LoRA is sent as the field file of a form.", "file")
                return JsonAnswer(await asyncio.to_thread(self._kept, part))
        except HTTPException as error:
            raise ApiError(400, "invalid_form", f"The form cannot be read: {error.detail}") from error

    def _kept(self, part: UploadFile) -> dict[str, Any]:
        folder = self.catalogue.files.uploads
        if folder is None:
            raise ApiError(403, "no_uploads", "This server keeps no LoRAs.")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"lora_{secrets.token_hex(16)}.safetensors"
        sent, made = folder / f".{name}.sent", folder / f".{name}.made.safetensors"
        try:
            copy_part(part.file, sent)
            replace_file(_converted(sent, made), folder / name)
        finally:
            delete_file(sent)
            delete_file(made)
        return {"id": name, "object": "lora", "bytes": (folder / name).stat().st_size}

    async def delete_lora(self, request: Request) -> Response:
        """Delete a LoRA that was sent; those in the folders of the operator stay."""
        name, folder = request.path_params["id"], self.catalogue.files.uploads
        known = folder is not None and name in {path.name for path in folder.glob("lora_*.safetensors")}
        if folder is None or not known:
            raise ApiError(404, "lora_not_found", "No LoRA of this id was sent.", "id")
        await asyncio.to_thread(delete_file, folder / name)
        return JsonAnswer({"id": name, "object": "lora.deleted", "deleted": True})


def _listed(data: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": data}


def _converted(sent: Path, made: Path) -> Path:
    """Return the LoRA as safetensors. Raises ApiError for a file that is none."""
    with open(sent, "rb") as file:
        kind = kind_of(file.read(HEAD))
    if kind not in (LORA, PICKLE):
        raise ApiError(415, "unsupported_file", "A LoRA is a safetensors file, or a PyTorch pickle.", "file")
    try:
        named = sent.rename(sent.with_suffix(kind.suffix))
        try:
            if kind == PICKLE:
                convert(named, made)
            else:
                named.rename(made)
        finally:
            delete_file(named)
        found = is_lora(made)
    except InputError as error:
        raise ApiError(
            400, "invalid_file", "The file is damaged, or holds other things than tensors.", "file"
        ) from error
    if not found:
        raise ApiError(400, "invalid_file", "The file is no LoRA by the names of its tensors.", "file")
    return made
