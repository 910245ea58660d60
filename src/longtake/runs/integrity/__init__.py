"""Verify a run directory, generate segments again, and repair what was damaged."""
