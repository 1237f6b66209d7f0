"""What the program offers besides serving: tail, load, doctor.

It may import the public modules and the packages below them.
"""
