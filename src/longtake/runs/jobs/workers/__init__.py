"""Worker processes: each generates one job after the other on a device and keeps the model loaded between them."""
