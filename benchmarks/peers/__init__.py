"""The alternatives to trio_sse, each in its natural best set-up on one core."""
