"""Tests of the event log in memory."""
