"""Tests of worker processes and their supervisor."""
