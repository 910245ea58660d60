"""What the page needs to know beside the API: the machine and the strategies with a line on what each is good for."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.planning.strategies.registry import STRATEGIES
from longtake.server.answers import JsonAnswer
from longtake.studio.machine import MachineWatch

EXAMPLES = (
    "a large yellow star bounces in the night sky",
    "a small blue heart pulses in the snow",
    "a green ring orbits in the desert",
)  # prompts that the built-in model knows every word of


def strategies() -> list[dict[str, str]]:
    """Return every registered strategy with its title and its line."""
    return [{"name": name, "title": one.title, "about": one.about} for name, one in STRATEGIES.items()]


def facts_route(watch: MachineWatch) -> Route:
    """Return the route `/studio/facts`."""

    async def answer(request: Request) -> Response:
        machine = await asyncio.to_thread(watch.look)
        return JsonAnswer(
            {"device": machine.facts(), "strategies": strategies(), "examples": list(EXAMPLES)},
            headers={"cache-control": "no-store"},
        )

    return Route("/studio/facts", answer)
