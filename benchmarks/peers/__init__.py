"""Other servers, to compare trio_sse with, each in its natural best set-up on one core."""
