"""Slow and hostile peers: what they cost healthy clients, and whether they are gone in time.

Run it with `python -m benchmarks.hostile`; `catalogue.py` has the scenarios.
"""
