"""Fuzzing: targets that check promises on any bytes, and the corpora of inputs that are kept for them."""
