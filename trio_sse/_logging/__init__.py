"""How log records are written: without making the event loop wait, as text or JSON, and not too often.

It knows nothing of the rest of the package.
"""
