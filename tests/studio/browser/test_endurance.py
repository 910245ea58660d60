"""Eight hours of video in seconds: the buffer and the memory of the page stay flat."""

import pytest

from longtake.media.video_io import encode
from tests.studio.browser.driving import until

pytestmark = pytest.mark.long

APPEND = """
const [init, media, count, done] = [...arguments];
(async () => {
  const { Feed } = await import("/static/js/player/feed.js");
  const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const feed = new Feed(video, () => new Promise(() => {}), { type: 'video/mp4; codecs="CODEC"' });
  await new Promise((open) => feed.source.addEventListener("sourceopen", open, { once: true }));
  await feed._prepare(null);
  await feed.append(bytes(init));
  const segment = bytes(media);
  let most = 0;
  for (let n = 0; n < count; n += 1) {
    feed.buffer.timestampOffset = n * 2;
    await feed.append(segment);
    if (n % 20 === 0) {
      video.currentTime = n * 2 + 1;
      most = Math.max(most, feed.ranges.reduce((sum, [start, end]) => sum + end - start, 0));
    }
  }
  const end = feed.ranges.at(-1)[1];
  feed.close();
  video.remove();
  done({ most, end });
})().catch((error) => done({ error: String(error) }));
"""


def test_eight_hours_do_not_grow_the_page(page):
    import base64
    from fractions import Fraction

    import torch

    from longtake.server.delivery.run_media import codec_string

    frames = torch.randint(0, 255, (16, 64, 64, 3), dtype=torch.uint8)
    made = encode(frames, 0, Fraction(8))
    page.cdp("Performance.enable")

    def heap() -> float:
        page.cdp("HeapProfiler.collectGarbage")
        found = {one["name"]: one["value"] for one in page.cdp("Performance.getMetrics")["metrics"]}
        return found["JSHeapUsedSize"]

    run = lambda count: page.driver.execute_async_script(
        APPEND.replace("CODEC", codec_string(made.init)),
        *(base64.b64encode(part).decode() for part in (made.init, made.media)),
        count,
    )
    first = run(1000)
    assert "error" not in first, first
    before = heap()
    long = run(14_400)
    after = heap()
    print(f"buffer at most {long['most']:.0f} s; heap {before / 1e6:.1f} -> {after / 1e6:.1f} MB")
    assert long["end"] >= 28_800 and long["most"] < 300
    assert after < before + 8e6
    until(lambda: True)
