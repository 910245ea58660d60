"""resume: continue the run in a run directory."""

from __future__ import annotations

from typing import Literal

from longtake.cli.completers import RunFolder


def resume(
    run: RunFolder,
    /,
    *,
    allow: list[str] | None = None,
    repair: bool = False,
    device: str | None = None,
    offload: Literal["none", "model", "blocks"] | None = None,
    preview: str | None = None,
    format: Literal["text", "json"] = "text",
) -> int:
    """Continue a run that was stopped or killed; the video gets the bytes of an uninterrupted run.

    Args:
        run: The run directory of `longtake generate` or `longtake extend`, or the video file beside it.
        allow: Name of a setting that may differ from the start of the run (all: any); may be repeated.
        repair: Regenerate segments that were deleted or altered before continuing.
        device: Continue on this device (cpu, cuda or cuda:N) instead of the original one.
        offload: Another choice of the weights in host memory than at the start of the run; frames stay the same.
        preview: Show the window that is being denoised, as `longtake generate --preview` does.
        format: text, or json for one event per line.
    """
    from longtake.cli.console import console_of
    from longtake.cli.next_steps import print_next_steps
    from longtake.cli.preview.pictures import check_preview
    from longtake.cli.run_video import record_run
    from longtake.runs import discard
    from longtake.runs import repair as regenerate
    from longtake.runs.target import expect_run
    from longtake.runs.video_run import reopen

    check_preview(preview)
    video = reopen(expect_run(run), device, offload)
    console = console_of(format == "json")
    if repair:
        for segment in regenerate(video.folder, video.manifest, video.generation, tuple(allow or ())):
            console.print(f"regenerated segment {segment.index}")
    code = record_run(video, console, tuple(allow or ()), json=format == "json", preview=preview)
    if not code:
        if format == "text":
            print_next_steps(console, video.folder, video.model)
        discard(video.folder)
    return code
