"""What a decoded frame needs to look as it should: its colours, its orientation, whole frames from interlaced fields."""
