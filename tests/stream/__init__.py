"""Tests of a stream's life."""
