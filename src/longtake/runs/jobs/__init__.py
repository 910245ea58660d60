"""Jobs: videos to generate that wait in a queue on disk, and the worker processes that generate them."""
