"""Notices of the library, printed as notes of the command line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from longtake.core.process.notices import InputWarning


@contextmanager
def printed_notes() -> Iterator[None]:
    """Print each notice once, as a line `note: ...` on the standard error, while the block runs."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        show_other = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **keywords: Any) -> None:
            if not issubclass(category, InputWarning):
                show_other(message, category, *rest, **keywords)
            elif str(message) not in seen:
                seen.add(str(message))
                print(f"note: {message}", file=sys.stderr, flush=True)

        warnings.showwarning = show  # type: ignore[assignment]
        yield
