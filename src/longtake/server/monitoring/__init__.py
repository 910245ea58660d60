"""What the operator of a server watches: /health, and /metrics in the text format of Prometheus."""
