"""The settings that a video file carries: written, read, and made into the arguments of a call."""
