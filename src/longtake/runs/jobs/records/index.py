"""The index of a queue, an SQLite file: which jobs there are, in which order, and which is next. Rebuilt from the folders."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Row = dict[str, Any]

COLUMNS = {
    "id": "TEXT PRIMARY KEY",
    "folder": "TEXT NOT NULL",  # its name under the root
    "number": "INTEGER NOT NULL",
    "state": "TEXT NOT NULL",
    "position": "INTEGER NOT NULL",
    "status": "TEXT NOT NULL",  # JSON of `Status.facts`
    "job": "TEXT NOT NULL",  # JSON of `Job.facts`; "" for a run of the command line
    "scope": "TEXT",
    "action": "TEXT",
    "key": "TEXT",
    "fingerprint": "TEXT",
}
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs ({", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())}) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_number ON jobs (number);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, position);
CREATE INDEX IF NOT EXISTS by_key ON jobs (scope, action, key);
CREATE INDEX IF NOT EXISTS by_fingerprint ON jobs (scope, action, fingerprint);
"""
LIVE = "state != 'deleted'"  # the others are kept for their idempotency keys
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)  # errors that a new file would not mend


class IndexDamaged(Exception):
    """The file is damaged or gone: make it anew from the folders."""


class Index:
    """An open index. All calls come from one thread at a time. Raises IndexDamaged where the file cannot be used."""

    def __init__(self, path: Path):
        self.path = path
        self._database = self._opened()

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
        try:
            database.row_factory = sqlite3.Row
            # alone in the file: no memory that is shared by -shm, at whose truncation the system would end the process
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")  # what a power cut takes away is read from the folders again
            database.executescript(SCHEMA)
            sound = database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            found = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
        except sqlite3.Error as error:
            database.close()
            raise IndexDamaged(str(error)) from error
        if not sound or found != set(COLUMNS):
            database.close()
            raise IndexDamaged("its pages or its columns are not those that it was made with")
        return database

    @staticmethod
    def remove(path: Path) -> None:
        """Delete the files of an index."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).unlink()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes of the block, or none."""
        if not self.path.exists():
            raise IndexDamaged("its file is gone")
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    # ------------------------------------------------------------ changes
    def put(self, row: Row) -> None:
        """Insert a row, or replace that of the same id."""
        marks = ", ".join("?" for _ in COLUMNS)
        self._run(f"INSERT OR REPLACE INTO jobs VALUES ({marks})", [row.get(name) for name in COLUMNS])

    def delete(self, id: str) -> None:
        """Remove the row of a job."""
        self._run("DELETE FROM jobs WHERE id = ?", [id])

    # ------------------------------------------------------------ questions
    def get(self, id: str) -> Row | None:
        """Return the row of a job that is not deleted."""
        return self._first(f"SELECT * FROM jobs WHERE id = ? AND {LIVE}", [id])

    def all(self) -> list[Row]:
        """Return all rows in the order of their numbers."""
        return self._rows("SELECT * FROM jobs ORDER BY number, id")

    def folders(self) -> dict[str, str]:
        """Return the id of every job that is not deleted, by the name of its folder."""
        return {row["folder"]: row["id"] for row in self._rows(f"SELECT folder, id FROM jobs WHERE {LIVE}")}

    def page(self, after: Row | None, limit: int, descending: bool) -> list[Row]:
        """Return at most `limit` rows that follow the row `after` in the order of their numbers."""
        order, sign = ("DESC", "<") if descending else ("ASC", ">")
        where, values = "", []
        if after is not None:
            where, values = f"AND (number, id) {sign} (?, ?)", [after["number"], after["id"]]
        return self._rows(
            f"SELECT * FROM jobs WHERE {LIVE} {where} ORDER BY number {order}, id {order} LIMIT ?", [*values, limit]
        )

    def next_in(self, state: str) -> Row | None:
        """Return the row of a state that is first in the queue."""
        return self._first("SELECT * FROM jobs WHERE state = ? ORDER BY position, id LIMIT 1", [state])

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are in each state."""
        rows = self._rows(f"SELECT state, count(*) AS n FROM jobs WHERE {LIVE} GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    def sent(self, scope: str, action: str, key: str) -> list[Row]:
        """Return the jobs that a sender asked for with an idempotency key, those that were deleted since too."""
        sql = "SELECT * FROM jobs WHERE scope = ? AND action = ? AND key = ? ORDER BY number, id"
        return self._rows(sql, [scope, action, key])

    def alike(self, scope: str, action: str, fingerprint: str) -> Row | None:
        """Return the last job that a sender asked for with the same fields."""
        sql = "SELECT * FROM jobs WHERE scope = ? AND action = ? AND fingerprint = ? "
        sql += f"AND {LIVE} ORDER BY number DESC LIMIT 1"
        return self._first(sql, [scope, action, fingerprint])

    def last_number(self) -> int:
        """Return the highest number and position so far; 0 if there is none."""
        row = self._first("SELECT max(max(number), max(position)) AS n FROM jobs", [])
        return (row or {}).get("n") or 0

    def _first(self, sql: str, values: Sequence[Any]) -> Row | None:
        return next(iter(self._rows(sql, values)), None)

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return [dict(row) for row in self._run(sql, values)]

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        try:
            return self._database.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.IntegrityError) or getattr(error, "sqlite_errorcode", 0) in FULL:
                raise OSError(f"the index of the queue cannot be written: {error}") from error
            raise IndexDamaged(str(error)) from error
