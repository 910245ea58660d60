"""Generate inside an asyncio program: the event loop stays free, and a task that is cancelled stops the generation.

python examples/python/asyncio_program.py
"""

import asyncio

import longtake


async def frames_of(pipe, prompt, **options):
    """Yield frames, uint8 (T, H, W, 3), while the event loop serves others."""
    stream = pipe.stream(prompt, **options)
    try:
        while (frames := await asyncio.to_thread(next, stream, None)) is not None:
            yield frames
    finally:
        pipe.interrupt()


async def count_ticks(ticks):
    """Show that the loop goes on."""
    while True:
        ticks.append(None)
        await asyncio.sleep(0.05)


async def main():
    """Generate one second of video beside another task."""
    pipe, ticks = longtake.load("pocket"), []
    other = asyncio.create_task(count_ticks(ticks))
    total = 0
    async for frames in frames_of(pipe, "a red ball over the sea", seconds=1, num_inference_steps=6):
        total += len(frames)
    other.cancel()
    print(f"{total} frames, and {len(ticks)} ticks of the event loop meanwhile")


asyncio.run(main())
