"""Tests of what the project promises, on every host."""
