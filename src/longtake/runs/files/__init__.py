"""The files of a run directory: one module reads and writes each kind of file."""
