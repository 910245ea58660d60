"""Making a video from the page: the first one, live edits, refusals, stop and resume, reload, a server that dies."""

import time

import pytest

from tests.studio.browser.driving import Page, Studio, segments, until

pytestmark = pytest.mark.long
SCENES = (
    "a red ball drifts to the right over the sea",
    "a blue star orbits in the night sky",
    "a green heart pulses in the snow",
)


def write_scenes(page, *prompts):
    """Write the scenes of a draft, 5 seconds each."""
    for number, prompt in enumerate(prompts):
        if number:
            page.click(".add-scene")
        field = page.see(f"#prompt-{number}" if number else "#prompt, #prompt-0")
        page.js("arguments[0].focus(); arguments[0].select()", field)
        page.keys(prompt)
    until(lambda: [text for _, text in page.scenes()] == list(prompts))


def make(page, *prompts, long=None):
    """Make a video of these scenes; return its id once it plays. long: the number of a scene that lasts 30 seconds."""
    before = {one["id"] for one in page.studio.videos()}
    write_scenes(page, *prompts)
    if long is not None:
        field = page.see(f".scene-row:nth-child({long + 1}) input")
        page.js("arguments[0].value = 30; arguments[0].dispatchEvent(new Event('change'))", field)
        page.reads("#timeline .scene:last-child", "0:40.0")
    page.click(".go")
    id = until(lambda: next((one["id"] for one in page.studio.videos() if one["id"] not in before), None))
    page.playing()
    return id


def test_one_button_makes_a_video_that_moves(page):
    assert page.js("return document.querySelector('#prompt').value") == SCENES[0]
    page.picture("1-empty")
    begun = time.monotonic()
    page.click(".go")
    page.playing()
    print(f"moving pictures after {time.monotonic() - begun:.1f} s")
    page.picture("2-live")
    page.reads("#badge", "done")
    page.reads("#clock", "/ 0:05.00")
    assert page.complaints() == []


def test_an_edit_changes_only_what_has_not_begun(page):
    id = make(page, *SCENES, long=1)
    until(lambda: page.scenes()[2][0] == "free")
    page.js("document.querySelector('[data-scene=\"2\"]').dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))")
    page.see(".in-place textarea")
    until(lambda: page.js("return document.activeElement.closest('.in-place') !== null"))
    page.picture("3-edit-in-place")
    page.chord("\ue009", "a")
    page.keys("a pink ring spins over the sea", "\ue007")
    until(lambda: page.scenes()[2][1] == "a pink ring spins over the sea")
    assert page.studio.ended(id)["state"] == "completed"
    until(
        lambda: page.scenes() == [("made", SCENES[0]), ("made", SCENES[1]), ("made", "a pink ring spins over the sea")]
    )
    scenes = [{"prompt": prompt, "seconds": seconds} for prompt, seconds in zip(SCENES, (5, 30, 5))]
    without = page.studio.api("/v1/videos", {"scenes": scenes, "seed": 0})
    page.studio.ended(without["id"])
    edited, plain = segments(page.studio, id), segments(page.studio, without["id"])
    assert len(edited) == len(plain) == 40 and edited[:34] == plain[:34] and edited[-1] != plain[-1]
    assert page.complaints() == []


def test_a_refused_edit_snaps_back_and_says_when(page):
    make(page, *SCENES)
    until(lambda: page.scenes()[0][0] in ("making", "made") and page.all("[data-horizon]"))
    page.drag('[data-edge="0"]', -300)
    page.reads("#toasts", "The first time that can is")
    page.picture("4-refused")
    assert [text for _, text in page.scenes()] == list(SCENES)
    until(lambda: page.text("[data-scene='0'] small").startswith("0:00.0 – 0:05.0"))


def test_stop_keeps_what_is_made_and_resume_goes_on(page):
    page.click(".segmented button:last-child")  # endless
    id = make(page, SCENES[0])
    page.click(".stop")
    stopped = page.studio.ended(id)
    assert stopped["stopped"] and stopped["frames_done"] > 0
    page.reads("#badge", "stopped")
    page.picture("5-stopped")
    before = segments(page.studio, id)
    page.click(".resume")
    until(lambda: len(segments(page.studio, id)) > len(before) + 1)
    assert segments(page.studio, id)[: len(before)] == before
    page.click(".stop")
    page.studio.ended(id)
    assert page.complaints() == []


def test_a_reload_shows_the_same(page):
    id = make(page, *SCENES, long=2)
    shown = [text for _, text in page.scenes()]
    page.driver.refresh()
    until(lambda: [text for _, text in page.scenes()] == shown)
    page.playing()
    assert page.js("return location.hash") == f"#{id}"
    page.reads(".transport .wide", "Stop")
    page.studio.ended(id)
    page.reads("#badge", "done")
    assert page.complaints() == []


def test_a_server_that_dies_comes_back_and_the_video_is_the_same(driver, tmp_path):
    studio = Studio(tmp_path / "films")
    try:
        page = Page(driver, studio).open()
        id = make(page, *SCENES)
        studio.kill()
        page.see("#banner.shown")
        page.reads("#banner", "does not answer")
        assert page.see(".go").get_attribute("disabled")
        page.picture("6-gone")
        studio.start()
        until(lambda: not page.all("#banner.shown"))
        assert studio.ended(id)["state"] == "completed"
        page.reads("#badge", "done")
        again = studio.api("/v1/videos", {"scenes": [{"prompt": one, "seconds": 5} for one in SCENES], "seed": 0})
        studio.ended(again["id"])
        videos = [(studio.folder / one / "video.mp4").read_bytes() for one in (id, again["id"])]
        assert videos[0] == videos[1]
    finally:
        studio.close()


def test_the_printed_address_carries_the_token_once(driver, tmp_path):
    studio = Studio(tmp_path / "films", "--token", "a-token-of-some-length")
    try:
        assert "?token=a-token-of-some-length" in studio.url
        page = Page(driver, studio).open()
        assert page.js("return location.search") == ""
        assert page.js("return document.cookie") == ""  # the cookie is hidden from scripts
        driver.get(f"http://127.0.0.1:{studio.port}/")
        page.see("#composer .go:not([disabled])")
        driver.delete_all_cookies()
        driver.get(f"http://127.0.0.1:{studio.port}/")
        page.reads("body", "open the address that the server printed")
    finally:
        studio.close()
