"""The promises of a stream, checked by one suite on every host: see `tests/support/hosts.py`.

Time that has to pass is Trio's on a clock that runs faster, so that nobody waits for a minute; what crosses
sockets is real.
"""
