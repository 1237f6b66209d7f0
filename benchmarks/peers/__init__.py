"""The servers that a user would take instead, each with its natural best set-up on one core."""
