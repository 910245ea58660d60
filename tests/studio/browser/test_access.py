"""The page by keyboard alone, for a screen reader, on a narrow screen, in both themes and both languages."""

from pathlib import Path

import pytest

from tests.studio.browser.driving import until

pytestmark = pytest.mark.long
AXE = Path(__file__).parent / "vendor" / "axe.min.js"  # axe-core 4.14.1, MPL-2.0, as npm has it
TAB, ENTER, CONTROL, RIGHT, SHIFT, ESCAPE = "\ue004", "\ue007", "\ue009", "\ue014", "\ue008", "\ue00c"


@pytest.fixture(scope="module")
def made(studio):
    """A finished video of two scenes."""
    scenes = [
        {"prompt": "a red ball bounces over the sea", "seconds": 1},
        {"prompt": "a blue star spins in the snow", "seconds": 1},
    ]
    return studio.ended(studio.api("/v1/videos", {"scenes": scenes})["id"])["id"]


def serious(page):
    """Return what axe-core finds that is serious or worse."""
    page.js(AXE.read_text())
    script = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations))"
    found = page.driver.execute_async_script(script)
    return [(one["id"], one["nodes"][0]["html"][:160]) for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_screen_reader_finds_nothing_serious(page, made, scheme):
    page.scheme(scheme)
    page.open()
    assert serious(page) == []
    page.open(f"#{made}")
    page.playing()
    page.picture(f"7-finished-{scheme}")
    assert serious(page) == []
    for view in ("library", "queue"):
        page.click(f'nav a[href="#{view}"]')
        page.see(f"#{view}:not([hidden]) h1")
        page.picture(f"8-{view}-{scheme}")
        assert serious(page) == []
    page.click('nav a[href="#create"]')
    page.click(".picker")
    page.see("dialog[open] .model")
    page.picture(f"9-models-{scheme}")
    assert serious(page) == []
    page.keys(ESCAPE)
    page.scheme("dark")


def test_a_video_is_made_by_keyboard_alone(page):
    page.js("document.activeElement.blur()")
    for _ in range(60):
        page.keys(TAB)
        if page.js("return document.activeElement.id") == "prompt":
            break
    page.chord(CONTROL, "a")
    page.keys("a green ring orbits in the desert")
    page.chord(CONTROL, ENTER)
    page.playing()
    page.js("document.activeElement.blur()")
    page.keys("k")
    until(lambda: page.js("return document.querySelector('#viewer video').paused"))
    before = page.js("return document.querySelector('#viewer video').currentTime")
    page.keys(RIGHT, RIGHT, RIGHT)
    until(
        lambda: abs(page.js("return document.querySelector('#viewer video').currentTime") - before - 3 / 24) < 1.5 / 24
    )
    page.keys("i")
    until(lambda: page.all("#scrub .range"))
    page.keys("?")
    page.see("dialog[open] .keylist")
    page.picture("10-keys")
    page.keys(ESCAPE)
    assert page.complaints() == []


def test_letters_do_nothing_while_text_is_typed(page):
    page.click("#prompt")
    page.keys("jkl?nb")
    assert page.js("return document.querySelector('#prompt').value").endswith("jkl?nb")
    assert not page.all("dialog[open]")


def test_scenes_are_chosen_moved_and_sized_by_keys(page):
    page.click(".add-scene")
    until(lambda: page.js("return document.activeElement.id") == "prompt-1")
    page.keys("rain")
    until(lambda: len(page.scenes()) == 2)
    page.js("document.querySelector('[data-scene=\"1\"]').focus()")
    page.chord("\ue00a", "\ue012")  # Alt and Left
    until(lambda: page.scenes()[0][1] == "rain")
    until(lambda: "moved to position 1 of 2" in page.js("return document.querySelector('#announcer').textContent"))
    until(lambda: page.js("return document.activeElement.dataset.scene") == "0")  # the focus goes with the scene
    edge = page.see('[data-edge="0"]')
    now = int(edge.get_attribute("aria-valuenow"))
    page.js("arguments[0].focus()", edge)
    page.keys(RIGHT)
    until(lambda: int(page.see('[data-edge="0"]').get_attribute("aria-valuenow")) == now + 1)
    page.chord(SHIFT, RIGHT)
    until(lambda: int(page.see('[data-edge="0"]').get_attribute("aria-valuenow")) == now + 25)
    page.js("document.activeElement.blur()")
    page.chord(CONTROL, "z")
    until(lambda: int(page.see('[data-edge="0"]').get_attribute("aria-valuenow")) < now + 25)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_four_hundred_pixels_are_enough(page, made, scheme):
    page.mobile(400, 860)
    page.scheme(scheme)
    page.open()
    page.picture(f"11-narrow-empty-{scheme}")
    for place in ("", f"#{made}", "#library", "#queue"):
        page.open(place)
        assert page.js("return document.documentElement.scrollWidth") <= 400, place
        small = "return [...document.querySelectorAll('button, select, a')].filter((one) => { const b = one.getBoundingClientRect(); return b.width && (b.width < 24 || b.height < 24); }).map((one) => one.outerHTML.slice(0, 120))"
        assert page.js(small) == [], place
        page.picture(f"11-narrow-{(place[1:8] or 'form')}-{scheme}")
    page.open(f"#{made}")
    page.reads(".scene-cards", "a blue star spins in the snow")
    page.mobile(1280, 860, False)
    page.scheme("dark")


def speak(page, language, words):
    """Choose a language; its button is there only while the page speaks another one."""
    choose = f"document.querySelector('.language[lang={language}]')?.click()"
    until(lambda: words in page.text(".go") or page.js(choose))


def test_the_page_speaks_chinese(page):
    speak(page, "zh", "生成视频")
    page.reads("#composer", "提示词")
    page.picture("12-chinese")
    speak(page, "en", "Make video")


def test_theme_and_language_are_kept(page):
    speak(page, "zh", "生成视频")
    before = page.js("return document.documentElement.dataset.theme")
    page.click("#bar .tools button:nth-last-child(2)")
    until(lambda: page.js("return document.documentElement.dataset.theme") != before)
    page.driver.refresh()
    page.reads(".go", "生成视频")
    assert page.js("return document.documentElement.dataset.theme") != before
