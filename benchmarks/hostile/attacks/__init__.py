"""What attackers do on one connection. `attacker.py` runs many of them."""
