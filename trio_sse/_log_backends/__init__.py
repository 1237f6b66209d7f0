"""What `trio_sse.redis` and `trio_sse.sqlite` are made of: URLs, scripts and files.

It may import `_shared_log` and the helper modules.
"""
