"""The application: a short list of routes, one file for each group, behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.states import ENDED, NoSuchJob
from longtake.server.body_limit import BodyLimit
from longtake.server.delivery.feeds import Source
from longtake.server.delivery.routes import Delivery
from longtake.server.downloads.downloads import Downloads
from longtake.server.errors import ApiError, on_api_error, on_failure, on_http_error
from longtake.server.events.history import History
from longtake.server.events.stream import EventStream
from longtake.server.events.videos import VideoEvents
from longtake.server.monitoring.metrics import Metrics
from longtake.server.monitoring.routes import Monitoring
from longtake.server.openapi import OpenApi
from longtake.server.requests.body import Bodies
from longtake.server.requests.calls import Senders, api_error
from longtake.server.requests.catalogue import Catalogue
from longtake.server.requests.model_files import ModelFiles
from longtake.server.requests.uploads.store import UploadStore
from longtake.server.routes.derived import DerivedVideos
from longtake.server.routes.excerpts import Excerpts
from longtake.server.routes.inspect import Inspections
from longtake.server.routes.library import Library
from longtake.server.routes.models import Models
from longtake.server.routes.plans import Plans
from longtake.server.routes.previews import VideoPreviews
from longtake.server.routes.script import Scripts
from longtake.server.routes.script_files import script_file_routes
from longtake.server.routes.uploads import Uploads
from longtake.server.routes.videos import Videos
from longtake.server.security import Access, Guard

THREADS = 64  # for calls that wait for a disk or a worker, such as DELETE


def create_app(queue: JobQueue, catalogue: Catalogue | None = None) -> Starlette:
    """Return the application that serves the jobs of a queue to anyone who reaches it; `guarded` says who may."""
    senders = Senders()
    offered = catalogue or Catalogue(ModelFiles(uploads=queue.store.own / "loras"))
    bodies = Bodies(UploadStore(queue.store.own / "uploads"))
    delivery, history = Delivery(lambda id: source_of(queue, id)), History()
    downloads, happening = Downloads(history.publish), VideoEvents(queue, history)
    routes = [
        *DerivedVideos(queue, offered, senders, bodies).routes(),
        *Videos(queue, offered, senders, bodies).routes(),
        *Scripts(queue, bodies).routes(),
        *VideoPreviews(queue).routes(),
        *delivery.routes(),
        *EventStream(history, delivery.feeds, happening.snapshot, happening.has_ended).routes(),
        *Uploads(bodies).routes(),
        *Models(offered, downloads).routes(),
        *Plans(offered, bodies).routes(),
        *Monitoring(queue, Metrics(queue, delivery.feeds)).routes(),
        *Library(queue).routes(),
        *Excerpts(delivery.feeds).routes(),
        *script_file_routes(),
        *Inspections(bodies).routes(),
    ]
    return Starlette(
        routes=[*routes, *OpenApi(routes).routes()],
        exception_handlers={ApiError: on_api_error, HTTPException: on_http_error, Exception: on_failure},
        lifespan=lambda app: _running(downloads),
    )


def guarded(app: ASGIApp, access: Access) -> ASGIApp:
    """Return an application that answers only what `access` allows, and reads bodies of bounded size."""
    return Guard(BodyLimit(app), access)


def source_of(queue: JobQueue, id: str) -> Source:
    """Return the run directory of a job. ApiError 404 if there is none of this id."""
    try:
        job = queue.get(id)
    except NoSuchJob as error:
        raise api_error(error) from error
    return Source(job.folder, job.status.state not in ENDED)


@asynccontextmanager
async def _running(downloads: Downloads) -> AsyncIterator[None]:
    with ThreadPoolExecutor(THREADS, "longtake") as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        yield
        downloads.close()
