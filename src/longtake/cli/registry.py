"""The commands: one line each. A new command is a file in `commands/` and a line here; nothing else names it.

Another package adds a command with `longtake.register_command`, or with an entry point of the group `longtake.commands`
that names a `Command`. `longtake --help` imports the module of that `Command`, so keep torch out of it.
"""

from __future__ import annotations

from longtake.cli.app import Command
from longtake.core.registry import Registry

COMMANDS: Registry[Command] = Registry("command", Command, {
    "generate": Command(
        "Make", "Generate a video from a prompt or a script.",
        ('longtake generate "a red ball rolls over the sand" --seconds 20',
         'longtake generate "the star falls" --image star.png --model pocket-i2v',
         "longtake generate --script story.toml --strategy relay --dry-run",
         "longtake generate --like ball.mp4 --seed 7"),
        topic="print_strategy_help", writes=True,
    ),
    "extend": Command(
        "Make", "Continue an existing video file with new frames.",
        ('longtake extend beach.mp4 "the ball rolls into the water" --seconds 10',), topic="print_strategy_help", writes=True,
    ),
    "resume": Command(
        "Continue", "Continue a run that was stopped or killed, to the same bytes.",
        ("longtake resume out/a-red-ball-001",), writes=True,
    ),
    "prompts": Command(
        "Continue", "List the prompts of a run, or change those still to come.",
        ("longtake prompts out/a-red-ball-001 list",
         'longtake prompts out/a-red-ball-001 insert "a blue star" --at 30 --seconds 5'),
    ),
    "studio": Command(
        "Make", "Open the studio, a page to make long videos, in the browser.",
        ("longtake studio", "longtake studio --output films --no-browser"),
    ),
    "serve": Command(
        "Make", "Serve videos over HTTP, in the API of OpenAI's client.",
        ("longtake serve --output out", "longtake serve --device cuda:0 --device cuda:1"),
    ),
    "clean": Command(
        "Continue", "List runs and snapshots, and remove old or large ones.",
        ("longtake clean", "longtake clean out --older-than 30d", "longtake clean --larger-than 2GB --snapshots"),
        writes=True,
    ),
    "verify": Command(
        "Inspect", "Check the hashes of a run and regenerate one of its segments.",
        ("longtake verify out/a-red-ball-001 --segment 3",),
    ),
    "plan": Command(
        "Inspect", "Draw a strategy, or estimate its cost for a model.",
        ("longtake plan", "longtake plan sliding --seconds 20", "longtake plan async --model skyreels-v2-df-14b-540p"),
    ),
    "models": Command("Inspect", "List the built-in models and the released checkpoints."),
    "inspect": Command(
        "Inspect", "Describe a checkpoint, or the settings that a video carries.",
        ("longtake inspect checkpoints/Wan2.1-T2V-1.3B", "longtake inspect out/ball/video.mp4"),
    ),
    "convert": Command(
        "Inspect", "Convert a checkpoint of .pth files into safetensors.",
        ("longtake convert Wan2.1_VAE.pth",), writes=True,
    ),
    "help": Command(
        "Inspect", "Explain a topic, a strategy, a model, a recipe or a command.",
        ("longtake help", "longtake help scripts", "longtake help sliding"),
    ),
    "doctor": Command("Inspect", "Report what this machine can run, and what is missing."),
    "train": Command(
        "Train", "Train a model with a recipe, or resume its training.",
        ("longtake train lora examples/train/lora.toml -o out/lora", "longtake train lora --help",
         "longtake train lora examples/train/lora.toml -o out/lora --steps 50 --set loop.lr=5e-4"),
        topic="print_recipe_help", writes=True,
    ),
    "data prepare": Command(
        "Train", "Turn a folder of videos into training clips.",
        ("longtake data prepare videos -o clips --shots adaptive",), writes=True,
    ),
}, group="longtake.commands", words=2)  # fmt: skip


def register_command(name: str, command: Command) -> None:
    """Add a command from another package while the program runs; the entry points "longtake.commands" do it for good.

    name: one word ("caption"), or two ("data caption"). command: its line, with the function that runs it as `home`.
    Raise InputError if the name is taken.
    """
    COMMANDS.register(name, command)
