"""studio: the page on which a film maker works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def studio(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("out"),
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    allowed_host: list[str] | None = None,
    no_browser: bool = False,
    device: list[str] | None = None,
    max_queue: int = 256,
    models_dir: list[Path] | None = None,
) -> int:
    """Open the studio in the browser: a page to make long videos, watch them while they are made, and edit what has not begun.

    Args:
        output: Folder of the videos. Those that the command line made there appear as well.
        host: Address to listen on. Any other than this machine's own needs a token, which is made and printed if none is given.
        port: Port to listen on (default: a free one).
        token: Text that the page must show; the printed address carries it.
        allowed_host: Name under which a browser reaches the studio, such as that of a reverse proxy; may be repeated.
        no_browser: Print the address, and open no browser.
        device: Device of a worker (cpu, cuda or cuda:N); may be repeated for several GPUs (default: auto).
        max_queue: Videos that may wait; further ones are refused.
        models_dir: Folder of checkpoints and LoRAs to offer, such as ComfyUI's models/; may be repeated.
    """
    from longtake.runs.jobs.queue import JobQueue
    from longtake.server.requests.catalogue import Catalogue
    from longtake.server.requests.model_files import ModelFiles
    from longtake.server.security import Access, check_exposure, own_names
    from longtake.studio.app import studio_app
    from longtake.studio.serving import address, listening, open_browser, own_hosts, serve, token_for

    with JobQueue(output, most_queued=max_queue) as queue, listening(host, port) as listener:
        shown = token_for(host, token, queue.store.own)
        check_exposure(host, shown)
        bound = listener.getsockname()[1]
        queue.start(device or ["auto"])
        access = Access(
            token=shown, port=bound, allowed_hosts=(*(allowed_host or ()), *own_names(host), *own_hosts(host))
        )
        url = address(host, bound, shown)

        def ready() -> None:
            print(f"longtake studio: {url}\nVideos are kept in {queue.root}. Ctrl-C ends the studio.", flush=True)
            if not no_browser:
                open_browser(url)

        catalogue = Catalogue(ModelFiles(models_dir or (), queue.store.own / "loras"))
        serve(studio_app(queue, catalogue, access, cpu=bool(device) and set(device or ()) == {"cpu"}), listener, ready)
    return 0
