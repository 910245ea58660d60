"""The training recipes: `registry.py` names them, each has a file of its own."""
