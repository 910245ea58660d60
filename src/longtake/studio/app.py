"""The application of the studio: the server's, with the page."""

from __future__ import annotations

from starlette.types import ASGIApp

from longtake.runs.jobs.queue import JobQueue
from longtake.server.app import create_app, guarded
from longtake.server.requests.catalogue import Catalogue
from longtake.server.security import Access
from longtake.studio.costs.routes import Costs
from longtake.studio.facts import facts_route
from longtake.studio.machine import MachineWatch
from longtake.studio.page import page_routes


def studio_app(queue: JobQueue, catalogue: Catalogue, access: Access, cpu: bool = False) -> ASGIApp:
    """Return the application. catalogue: the models and LoRAs that it offers. cpu: the workers compute on the processor, whatever else the machine has."""
    app = create_app(queue, catalogue)
    own = [*page_routes(), facts_route(MachineWatch(cpu)), *Costs(queue, catalogue).routes()]
    app.router.routes.extend(own)
    return guarded(app, access)
