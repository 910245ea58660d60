"""Live delivery: the video of a run over HTTP, also while it is generated."""
