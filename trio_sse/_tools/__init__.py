"""The program's tools: tail, load, doctor.

It may import the public modules and the packages below them.
"""
