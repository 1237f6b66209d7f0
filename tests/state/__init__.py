"""Tests of states and presence lists."""
