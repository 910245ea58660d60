"""The process that downloads: `python -m longtake.server.downloads.process REPO COMMIT`.

It ends when its standard input closes, so that it never outlives the server. What fails is one sentence on stderr.
"""

from __future__ import annotations

import os
import sys
import threading

from longtake.models.checkpoints import hub

FAILED = 1


def main(repo: str, commit: str) -> int:
    """Download a repository at a commit; return the exit code."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        hub.fetch(repo, commit)
    except OSError as error:
        print(f"the download of {repo} failed: {error.strerror or type(error).__name__}", file=sys.stderr)
    except hub.HubUnreachable:
        print(f"the hub cannot be reached for {repo}", file=sys.stderr)
    except hub.HubError as error:
        print(error, file=sys.stderr)
    except Exception as error:  # the library lets those of its HTTP client through
        print(f"the download of {repo} failed ({type(error).__name__})", file=sys.stderr)
    else:
        return 0
    return FAILED


def _leave_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(FAILED)


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # threads of the downloader are not waited for
