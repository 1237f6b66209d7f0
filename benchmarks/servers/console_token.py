"""The token of the consoles of servers under test."""

TOKEN = "a-token-for-benchmarks"
