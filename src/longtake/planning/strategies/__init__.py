"""The strategies for long video: `registry.py` names them, each planner has a file of its own."""
