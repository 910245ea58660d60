"""A command of one's own: `longtake growing` prints how long each window is.

`longtake --help` imports this file for its `COMMAND`, so torch is imported only when the command runs.
"""

from longtake.cli.app import Command

COMMAND = Command(
    "Inspect",
    "List the windows of the strategy growing.",
    ("longtake growing --seconds 9",),
    home="longtake_growing_command:growing",
)


def growing(*, seconds: float = 10.0, fps: float = 24.0, first: int = 1) -> None:
    """List the new latent frames of each window, for a VAE that compresses time by 4.

    Args:
        seconds: Length of the video in seconds.
        fps: Frames per second.
        first: New latent frames of the first window.
    """
    from longtake.planning.limits import Limits
    from longtake.planning.strategies.registry import make_plan

    plan = make_plan("growing", first=first)
    for window in plan.windows(round(seconds * fps), 4, Limits(max_latent_frames=24)):
        print(f"{sum(role == 'generate' for role in window.role)} new latent frames")
