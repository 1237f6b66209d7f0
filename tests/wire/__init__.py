"""Tests of the event wire."""
