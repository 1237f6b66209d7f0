"""Servers that tests run as separate processes."""
