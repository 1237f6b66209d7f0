"""Tests of tail, load and doctor."""
