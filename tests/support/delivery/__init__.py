"""The model of delivery: what clients do, what they receive, and the rule that it must obey."""
