"""The programs under test, and those that publish to them or follow them."""
