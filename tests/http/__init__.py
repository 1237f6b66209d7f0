"""Tests of HTTP values and bytes."""
