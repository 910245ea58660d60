"""Finished video files: of a codec and a kind that the user chooses, with sound."""
