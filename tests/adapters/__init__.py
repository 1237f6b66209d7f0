"""Runs in the protocols of others, with the clients of others."""
