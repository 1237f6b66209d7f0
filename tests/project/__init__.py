"""Tests of the project itself: docs, examples, imports, types."""
