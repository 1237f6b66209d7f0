"""`python -m trio_sse` is `trio-sse`."""

from .cli import main

main(prog_name="trio-sse")
