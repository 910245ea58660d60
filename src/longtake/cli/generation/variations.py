"""Several videos of one command: which one is next, one contact sheet of all, and how to go on after a stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.markup import escape

from longtake.cli.next_steps import another
from longtake.core.units import command_line, plural
from longtake.media.contact_sheet import GAP, MARGIN, Strip, draw_strips
from longtake.runs.claim import Claim
from longtake.runs.files.layout import Layout
from longtake.runs.sampled_frames import sampled_frames

HEIGHT, WIDTH, MOST = 160, 1440, 8  # pixels of a frame and of the sheet; frames of a video


class Variations:
    """The videos of one command, shown one after the other; of a single one nothing is said."""

    def __init__(self, claims: Sequence[Claim], console: Console):
        self.claims, self.console = claims, console
        self.strips: list[Strip] = []

    @property
    def sheet(self) -> Path:
        """The path of the contact sheet of all."""
        first = self.claims[0].target
        path = first.folder if first.file is None else first.file.with_suffix("")
        return path.with_name(f"{path.name}-to-{self.claims[-1].number:03d}.png")

    def begin(self, one: Claim) -> None:
        """Say which video is next."""
        if len(self.claims) > 1:
            number = self.claims.index(one) + 1
            where = one.target.file or one.target.folder
            self.console.print(
                f"\n[bold]{number} of {len(self.claims)}[/]: {escape(str(where))}, seed {one.record.seed}",
                soft_wrap=True,
            )

    def done(self, one: Claim) -> None:
        """Take frames of a finished video for the sheet."""
        if len(self.claims) == 1 or not Layout(one.target.folder).manifest.exists():
            return
        images: list[Image.Image] = []
        for frame in sampled_frames(one.target.folder, MOST):
            wide = max(1, round(HEIGHT * frame.shape[1] / frame.shape[0]))
            if 2 * MARGIN + (len(images) + 1) * (wide + GAP) - GAP <= WIDTH:
                images.append(Image.fromarray(frame).resize((wide, HEIGHT), Image.Resampling.LANCZOS))
        name = (one.target.file or one.target.folder).name
        self.strips.append(Strip(f"{name}   seed {one.record.seed}", images))

    def stopped(self, one: Claim) -> None:
        """Say how many are done, and how to go on."""
        if len(self.claims) > 1:
            done = self.claims.index(one)
            self.console.print(
                f"{done} of {plural(len(self.claims), 'video')} {'is' if done == 1 else 'are'} done; the same command goes "
                "on with the others", soft_wrap=True,
            )  # fmt: skip

    def finish(self) -> None:
        """Draw the contact sheet of all."""
        if len(self.claims) == 1:
            return
        again = command_line(another(self.claims[0].record, len(self.claims)))
        self.console.print(f"\nother ones: {escape(again)}", soft_wrap=True)
        if not self.strips:
            return
        widest = max(sum(image.width + GAP for image in strip.images) for strip in self.strips)
        draw_strips(self.strips, 2 * MARGIN + widest - GAP, HEIGHT).save(self.sheet)
        self.console.print(f"all {len(self.claims)} on one sheet: [bold]{escape(str(self.sheet))}[/]", soft_wrap=True)
