"""Pixels in and out: images, video files, sound as a control signal, contact sheets."""
