"""What happens to all videos, as one stream of server-sent events."""
