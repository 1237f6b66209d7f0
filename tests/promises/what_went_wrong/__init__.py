"""The symptoms of the page "What went wrong?", with the numbers that it names, and what cures them."""
