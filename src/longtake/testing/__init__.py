"""Checks and toy models for those who extend longtake: what every registered strategy, family, recipe, metric and command must pass."""
