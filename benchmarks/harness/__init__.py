"""What the scenarios share: processes, commands, measurements and what they were measured on."""
