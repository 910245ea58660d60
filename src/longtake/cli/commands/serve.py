"""serve: videos over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("out"),
    token: Annotated[str | None, Parameter(env_var="LONGTAKE_TOKEN")] = None,
    allowed_host: list[str] | None = None,
    device: list[str] | None = None,
    max_queue: int = 256,
    models_dir: list[Path] | None = None,
) -> int:
    """Serve videos over HTTP: jobs wait in a queue on disk, and a worker process for each device generates them.

    Args:
        host: Address to listen on; any other than this machine's own needs --token.
        port: Port to listen on.
        output: Folder of the run directories, one for each video.
        token: Text that every request must send as `Authorization: Bearer TOKEN`. The variable LONGTAKE_TOKEN keeps it out of the list of processes.
        allowed_host: Name, or NAME:PORT, under which clients reach the server, such as that of a proxy; may be repeated.
        device: Device of a worker (cpu, cuda or cuda:N); may be repeated for several GPUs (default: auto).
        max_queue: Jobs that may wait; further ones are refused with 429.
        models_dir: Folder of checkpoints and LoRAs that requests may name, such as ComfyUI's models/; may be repeated.
    """
    from longtake.runs.jobs.queue import JobQueue
    from longtake.server.security import Access, check_exposure, own_names

    check_exposure(host, token)
    access = Access(token, port, (*(allowed_host or ()), *own_names(host)))
    with JobQueue(output, most_queued=max_queue) as queue:  # first, so that a second server is refused at once
        queue.start(device or ["auto"])
        import uvicorn

        from longtake.server.app import create_app, guarded  # imports torch
        from longtake.server.requests.catalogue import Catalogue
        from longtake.server.requests.model_files import ModelFiles

        files = ModelFiles(models_dir or (), queue.store.own / "loras")
        app = guarded(create_app(queue, Catalogue(files)), access)
        print(f"longtake serves {queue.root} on http://{host}:{port}/v1", flush=True)
        uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=5)
    return 0
