"""Generated bad inputs: each ends in exit 2 and one sentence, within seconds and memory, and writes nothing elsewhere."""
