"""The studio: a page in the browser for making long videos, served by the server's application."""
