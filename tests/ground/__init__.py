"""Tests of the helper modules (`_validate`, `_backoff`, ...), which import nothing else of the package."""
