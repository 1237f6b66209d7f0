"""Tests of the program `trio-sse serve`."""
