"""What surrounds the server in some scenarios: limits, disks, clocks, logs and networks that fail."""
