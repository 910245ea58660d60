"""The keys of a recipe's config; `longtake train RECIPE --help` lists them."""

from __future__ import annotations

from collections.abc import Sequence

REQUIRED = "required"


def print_recipe_help(words: Sequence[str]) -> bool:
    """Print the keys of the recipe that a command line with --help names; return False if it names none."""
    from longtake.train.recipes.registry import RECIPES

    name = next((word for word in words if not word.startswith("-")), None)
    if name is None:
        return False
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from longtake.train.config_keys import keys_of_training

    entry, console = RECIPES[name], Console(highlight=False)
    console.print(f"[bold]{name}[/]: {escape(entry.about)}\n")
    for group in keys_of_training(name, entry.part("CONFIG")):
        console.print(f"[bold]{escape(f'[{group.table}]')}[/]  {escape(group.about)}")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=28)
        for key in group.keys:
            meaning = key.meaning[:1].upper() + key.meaning[1:].rstrip(".")
            kind = f" ({key.kind})" if key.says_kind else ""
            table.add_row(
                f"  {key.name}", escape(REQUIRED if key.required else key.default), escape(f"{meaning}{kind}.")
            )
        console.print(table, "")
    example = entry.example or "CONFIG.toml"
    console.print(f"Example:\n  longtake train {name} {example} -o out/{name}\n", soft_wrap=True, markup=False)
    console.print(
        "`--set TABLE.KEY=VALUE` changes a key on the command line. `longtake train --help` lists the options."
    )
    return True
