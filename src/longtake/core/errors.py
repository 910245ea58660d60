"""The errors that several rooms raise, and the base class by which the command line recognises them."""

from __future__ import annotations


class LongtakeError(Exception):
    """An error whose message is meant for the user: one sentence that says what is wrong and what to do.

    The command line prints the message alone; any other exception is a fault of the program and keeps its traceback.
    """


class InputError(LongtakeError, ValueError):
    """A request, a file or a setting that cannot be used as it is."""


class PlanError(InputError):
    """A request that no plan can meet; the message names the nearest one that can be met."""


class ScriptError(InputError):
    """A script, a scene or an edit of one that cannot be used."""


class SettingsError(InputError):
    """A request that this model or this machine cannot meet."""


class NonFiniteError(LongtakeError, FloatingPointError):
    """Latents, frames or a state that became NaN or infinite; the message says where, and the likely causes."""


class MediaError(LongtakeError, RuntimeError):
    """A video or sound file that cannot be read or written."""


class ConfigError(InputError):
    """A training config that cannot be followed; the message names the key and says what to do."""
