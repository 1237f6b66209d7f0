"""Tests of the ground modules, which import nothing else of the package."""
