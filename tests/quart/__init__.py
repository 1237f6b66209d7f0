"""Tests of streams in Quart-Trio apps."""
