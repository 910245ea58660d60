"""Names of files and folders made from a prompt: letters and digits of any language, joined by hyphens."""

from __future__ import annotations

import unicodedata

MOST_LETTERS, MOST_BYTES = 48, 120  # of a name; a file system takes 255 bytes, and endings are added


def slug(text: str) -> str:
    """Return a text as a name: `A red ball!` becomes `a-red-ball`; "video" if it has no letter and no digit.

    Letters of every script stay, with their marks; everything else, such as slashes, quotes and emoji, becomes a hyphen.
    The name is cut off behind a whole word where there is one.
    """
    kept = [_kept(letter) for letter in unicodedata.normalize("NFKC", text).lower()]
    words = "".join(kept).split()
    name = ""
    for word in words:
        longer = f"{name}-{word}" if name else word
        if len(longer) > MOST_LETTERS or len(longer.encode()) > MOST_BYTES:
            break
        name = longer
    return name or _cut(words[0] if words else "video")


def _kept(letter: str) -> str:
    return letter if unicodedata.category(letter)[0] in "LMN" else " "


def _cut(word: str) -> str:
    """Return the beginning of a word that is too long by itself, such as a sentence without spaces."""
    word = word[:MOST_LETTERS]
    while len(word.encode()) > MOST_BYTES:
        word = word[:-1]
    return word
