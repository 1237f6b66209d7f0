"""Helpers of the tests: clients, servers, programs and peers."""
