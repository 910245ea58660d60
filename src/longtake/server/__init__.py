"""Endless video over HTTP: jobs, live delivery and the routes of the `/v1/videos` family."""
