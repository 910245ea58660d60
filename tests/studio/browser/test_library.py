"""The library and the queue: search, stars, order, deletion with undo, comparison, extension, export, restored files."""

import re
import urllib.request

import pytest

from tests.studio.browser.driving import segments, until

pytestmark = pytest.mark.long
PROMPTS = ("a red ball bounces over the sea", "a blue star spins in the snow")


@pytest.fixture(scope="module")
def two(studio):
    """Two finished videos of one second."""
    made = [studio.api("/v1/videos", {"prompt": one, "seconds": 1, "seed": n})["id"] for n, one in enumerate(PROMPTS)]
    return [studio.ended(id)["id"] for id in made]


def cards(page):
    """Return the prompts of the cards that are shown."""
    return page.js("return [...document.querySelectorAll('.card .text p')].map((one) => one.textContent)")


@pytest.fixture
def library(page, two):
    """The page with the library open."""
    page.click('nav a[href="#library"]')
    until(lambda: set(PROMPTS) <= set(cards(page)))
    return page


def test_search_sort_and_stars(library):
    page = library
    page.click('.card[aria-label="a blue star spins in the snow"] .starred')
    until(lambda: page.all('.card .starred[aria-pressed="true"]'))
    page.click(".page-head button")
    until(lambda: cards(page) == [PROMPTS[1]])
    page.click(".page-head button")
    page.click('input[type="search"]')
    page.keys("RED pocket")
    until(lambda: cards(page) == [PROMPTS[0]])
    page.picture("13-search")
    assert page.complaints() == []


def test_two_are_compared_in_sync_with_what_differs(library):
    page = library
    for prompt in PROMPTS:
        page.js("arguments[0].click()", page.see(f'.card[aria-label="{prompt}"] .marks button:last-child'))
    page.click(".select-bar .primary")
    page.see("dialog.compare[open] table")
    page.reads("dialog.compare", "seed")
    page.click("dialog.compare .controls button")
    times = "return [...document.querySelectorAll('dialog.compare video')].map((one) => one.currentTime)"
    until(lambda: all(time > 0.2 for time in page.js(times)))
    one, other = page.js(times)
    assert abs(one - other) < 0.3
    page.picture("14-compare")
    page.keys("\ue00c")
    assert page.complaints() == []


def test_a_deleted_video_comes_back(library, studio):
    page = library
    extra = studio.ended(studio.api("/v1/videos", {"prompt": "a pink ring pulses in the desert", "seconds": 1})["id"])[
        "id"
    ]
    until(lambda: page.js(f"return document.querySelector('.card[data-id=\"{extra}\"] img')?.naturalWidth"))
    page.js("arguments[0].click()", page.see(f'.card[data-id="{extra}"] .acts button:last-child'))
    until(lambda: not page.all(f'.card[data-id="{extra}"]'))
    assert extra not in [one["id"] for one in studio.videos()]
    page.picture("15-deleted")
    page.click("#toasts .toast button")
    page.see(f'.card[data-id="{extra}"]')
    assert studio.api(f"/v1/videos/{extra}")["state"] == "completed"
    assert page.complaints() == []


def test_a_dropped_video_restores_form_and_timeline(page, two, studio):
    page.drop(studio.folder / two[1] / "video.mp4")
    page.reads("#toasts", "The settings of video.mp4 are in the form")
    assert page.js("return document.querySelector('#prompt').value") == PROMPTS[1]
    assert page.js("return document.querySelector('#seed').value") == "1"
    assert [text for _, text in page.scenes()] == [PROMPTS[1]]
    page.click(".go")
    again = until(
        lambda: next(
            (one["id"] for one in studio.videos() if one["id"] not in two and one["prompt"] == PROMPTS[1]), None
        )
    )
    studio.ended(again)
    assert segments(studio, again) == segments(studio, two[1])


def test_another_file_is_refused_in_words(page, tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("no video")
    page.drop(path)
    page.see("#toasts .toast.bad")


def test_a_range_is_exported(page, two, studio):
    page.open(f"#{two[0]}")
    page.playing()
    page.js("document.activeElement.blur()")
    page.keys("k")
    page.click('.stage-head .actions [aria-label="Export"]')
    links = {
        kind: page.see(f'dialog[open] a[href*="format={kind}"]').get_attribute("href") for kind in ("mp4", "gif", "png")
    }
    page.picture("16-export")
    heads = {kind: urllib.request.urlopen(url, timeout=60).read(8) for kind, url in links.items()}
    assert heads["gif"][:3] == b"GIF" and heads["png"][:2] == b"PK" and heads["mp4"][4:] == b"ftyp"


def test_a_video_is_extended(page, two, studio):
    page.open(f"#{two[0]}")
    page.playing()
    page.click('.stage-head .actions [aria-label="Extend"]')
    field = page.see("#extend-by")
    page.js("arguments[0].focus(); arguments[0].select()", field)
    page.keys("1")
    page.click("dialog[open] .primary")
    id = until(
        lambda: (found := re.search(r"#(video_\w+)", page.driver.current_url)) and found[1] not in two and found[1]
    )
    assert studio.ended(id)["seconds"] == "2"
    page.reads("#clock", "/ 0:02.00")


def test_the_queue_is_reordered_and_cancelled(page, studio):
    long = studio.api("/v1/videos", {"prompt": "a red ball", "endless": True})["id"]
    waiting = [studio.api("/v1/videos", {"prompt": f"a blue star {n}", "seconds": 1})["id"] for n in range(3)]
    page.click('nav a[href="#queue"]')
    order = lambda: page.js("return [...document.querySelectorAll('.job')].map((one) => one.dataset.id)")
    until(lambda: order() == [long, *waiting])
    page.picture("17-queue")
    page.js("arguments[0].click()", page.see(f'.job[data-id="{waiting[2]}"] [aria-label^="Move earlier"]'))
    until(lambda: order() == [long, waiting[0], waiting[2], waiting[1]])
    page.js("arguments[0].click()", page.see(f'.job[data-id="{waiting[0]}"] [aria-label^="Cancel"]'))
    until(lambda: order() == [long, waiting[2], waiting[1]])
    page.js("arguments[0].click()", page.see(f'.job[data-id="{long}"] [aria-label^="Stop"]'))
    until(lambda: order() == [])
    page.see("#queue .empty")
    assert page.complaints() == []


def test_a_thousand_videos_stay_fast(page):
    script = """
      const { applied } = await import("/static/js/api/feedback.js");
      const { cardView } = await import("/static/js/library/card.js");
      const done = arguments[arguments.length - 1];
      const wire = (n) => ({ id: `video_fake_${n}`, status: "completed", state: "completed", prompt: `prompt ${n}`, model: "pocket", size: "64x64", fps: 24, num_frames: 24, created_at: n, seed: n });
      const frame = document.createElement("div");
      frame.className = "grid";
      document.querySelector("#library").append(frame);
      const app = { urls: { thumbnail: () => "data:,", content: () => "data:," }, runs: {}, dialogs: {} };
      let state = { videos: {}, listed: [], progress: {} };
      const begun = performance.now();
      for (let n = 0; n < 1000; n += 1) {
        state = { ...state, ...applied(state, "state", { id: wire(n).id, video: wire(n) }, 0) };
        const card = document.createElement("article");
        cardView(app, card, state.videos[wire(n).id], false);
        frame.append(card);
      }
      frame.getBoundingClientRect();
      done(performance.now() - begun);
    """
    took = page.driver.execute_async_script(
        f"(async (...given) => {{ {script.replace('arguments[arguments.length - 1]', 'given.at(-1)')} }})(...arguments)"
    )
    print(f"1,000 cards: {took:.0f} ms")
    assert took < 10_000
