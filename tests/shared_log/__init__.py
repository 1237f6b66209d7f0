"""Tests of the logs that hubs share, on every kind of log."""
