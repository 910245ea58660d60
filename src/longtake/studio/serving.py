"""Serving the studio: where it listens, the address that a person opens, and the token in it."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from longtake.core.errors import SettingsError

EVERYWHERE = ("0.0.0.0", "::")  # addresses that stand for all of this machine's
OWN = ("127.0.0.1", "localhost", "::1")  # names of this machine, which other machines do not reach


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. port 0: any free one. SettingsError if the port is taken or the host is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"the studio cannot listen on {host}, port {port} ({reason}): choose another --port, or leave it out"
        ) from error


def token_for(host: str, token: str | None, folder: Path) -> str | None:
    """Return the token to ask for: the one given, none on this machine alone, else one that is kept in the folder.

    It is kept so that open pages still work after the studio was started again.
    """
    if token is not None or host in OWN:
        return token
    file = folder / "token"
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        made = secrets.token_urlsafe(24)
        with open(
            os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="\n"
        ) as out:
            out.write(made)
        return made


def address(host: str, port: int, token: str | None) -> str:
    """Return the address to open, which carries the token once: the answer to it sets a cookie and drops the token."""
    name = own_hosts(host)[0] if host in EVERYWHERE else host
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def own_hosts(host: str) -> list[str]:
    """Return the names under which other machines reach an address that stands for all: its IP address, then its name."""
    if host not in EVERYWHERE:
        return []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks by which of its addresses the machine would
            found = probe.getsockname()[0]
        except OSError:
            return [socket.gethostname()]
    return [found, socket.gethostname()]


def serve(app: ASGIApp, listener: socket.socket, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal ends it. on_ready: called once requests are answered."""
    config = uvicorn.Config(app, log_level="warning", server_header=False, ws="none", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    waiting = threading.Event()

    def watch() -> None:
        while not server.started and not waiting.wait(0.02):
            pass
        if server.started:
            on_ready()

    threading.Thread(target=watch, daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        waiting.set()


def open_browser(url: str) -> None:
    """Open the address in the user's browser, without waiting for it."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
