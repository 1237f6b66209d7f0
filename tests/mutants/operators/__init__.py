"""Mutation testing by a tool: every operator, number and condition of a few central files is changed."""
