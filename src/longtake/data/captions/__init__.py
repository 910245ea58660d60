"""Captions of shots: their parts, tables that people wrote, and captioner plug-ins."""
