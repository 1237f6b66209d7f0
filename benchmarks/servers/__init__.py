"""The programs under test, and the programs that publish to them or follow them."""
