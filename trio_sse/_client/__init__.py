"""The receiving side of event streams over the network: when to reconnect, and what a dead connection is."""
