"""The gallery of a pocket model: GIFs of every motion and every scenery, a story, and a minute without a cut.

    python -m longtake.eval.gallery --output docs/img

Nothing is selected by hand: there is one prompt for each picture and one seed for all.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from longtake.core.process.standard_streams import protect_streams
from longtake.eval.pocket_prompts import VideoRequest
from longtake.media.contact_sheet import INK, PAPER, picture, save_sheet
from longtake.models import load
from longtake.planning.script import Scene

SPEED = 12  # frames per second of a GIF: every second frame of the video
GAP, LINE = 4, 18  # pixels between clips, and for the label under them
COLOURS = 128  # size of a GIF's palette

MOTIONS: Mapping[str, str] = {
    "moves left": "a large red star moves left over the sea",
    "moves right": "a large yellow circle moves right at night",
    "moves up": "a large pink heart moves up in the desert",
    "moves down": "a large blue square moves down in the snow",
    "bounces": "a large orange circle bounces on a plain grid",
    "orbits": "a large green triangle orbits over green hills by day",
    "spins": "a large purple star spins over the sea",
    "pulses": "a large red heart pulses at night",
    "stays still": "a large white ring stays still in the desert",
    "sways": "a large purple square sways side to side in the snow",
}
SCENERIES: Mapping[str, str] = {
    "by day": "a large red circle bounces over green hills by day",
    "at night": "a large yellow star orbits in the night sky",
    "sea": "a large orange square moves right over the sea",
    "desert": "a large blue heart sways side to side in the desert",
    "snow": "a large green ring bounces in the snow",
    "grid": "a large pink triangle spins on a plain grid",
}
STORY = (
    Scene("a large red heart bounces over green hills by day", 5.0),
    Scene("a large red heart orbits over the sea", 5.0),
    Scene("a large yellow star orbits in the night sky", 5.0),
)
MINUTE = "a large orange circle moves right over the sea"


def main() -> None:
    """Write motions.gif, sceneries.gif, story.png and minute.png."""
    parser = argparse.ArgumentParser(prog="python -m longtake.eval.gallery", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", help="Name or folder of the model.")
    parser.add_argument("-o", "--output", type=Path, default=Path("gallery"), help="Folder for the pictures.")
    parser.add_argument("--seed", type=int, default=1, help="Seed of the noise.")
    args = parser.parse_args()
    model = load(args.model)
    args.output.mkdir(parents=True, exist_ok=True)
    for name, prompts in (("motions", MOTIONS), ("sceneries", SCENERIES)):
        clips = {label: VideoRequest(prompt, args.seed).generate(model) for label, prompt in prompts.items()}
        save_gif(args.output / f"{name}.gif", clips)
    story = VideoRequest(STORY, args.seed).generate(model)
    minute = VideoRequest(MINUTE, args.seed, round(60 * model.fps)).generate(model)
    save_sheet(args.output / "story.png", _rows(story, 3, [scene.prompt for scene in STORY]))
    save_sheet(args.output / "minute.png", _rows(minute, 4, [f"second {n} to {n + 15}" for n in range(0, 60, 15)]))
    print(f"Wrote motions.gif, sceneries.gif, story.png and minute.png to {args.output}.")


def _rows(frames: Tensor, count: int, headings: Sequence[str]) -> list[tuple[str, Tensor]]:
    return list(zip(headings, frames.tensor_split(count)))


def save_gif(path: Path, clips: Mapping[str, Tensor], columns: int = 5, scale: int = 2, fps: float = 24.0) -> None:
    """Write clips (T, 3, H, W) in [0, 1] of one size side by side as an endless GIF, each above its label."""
    step = round(fps / SPEED)
    length = min(len(frames) for frames in clips.values())
    pages = [_page(clips, frame, columns, scale) for frame in range(0, length, step)]
    palette = Image.new("RGB", (pages[0].width, 4 * pages[0].height))  # of pages from the whole length
    for row, page in enumerate(pages[:: max(1, len(pages) // 4)][:4]):
        palette.paste(page, (0, row * page.height))
    shared = palette.quantize(COLOURS)
    pages = [page.quantize(palette=shared, dither=Image.Dither.NONE) for page in pages]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=round(1000 / SPEED), loop=0, optimize=True)


def _page(clips: Mapping[str, Tensor], frame: int, columns: int, scale: int) -> Image.Image:
    high, wide = (scale * side for side in next(iter(clips.values())).shape[2:])
    columns = min(columns, len(clips))
    rows = -(-len(clips) // columns)
    page = Image.new("RGB", (columns * (wide + GAP) - GAP, rows * (high + LINE)), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for number, (label, frames) in enumerate(clips.items()):
        left, top = number % columns * (wide + GAP), number // columns * (high + LINE)
        page.paste(picture(frames[frame], scale), (left, top))
        pen.text((left + wide // 2, top + high + LINE // 2), label, INK, font, anchor="mm")
    return page


if __name__ == "__main__":
    protect_streams()
    main()
