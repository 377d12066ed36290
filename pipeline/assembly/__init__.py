"""Builds parts of the engine according to the settings."""
