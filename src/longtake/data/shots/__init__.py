"""The shots of a video file: where they begin, and their metrics."""
