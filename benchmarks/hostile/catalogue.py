"""All scenarios, with the bounds that they must keep.

The server's deadlines are ten seconds each. An attacker that has been admitted just before the attack is over
has them from then on, so what is left must be gone a little after that.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.hostile.needs import libfaketime, memory_cgroup, program, root, tun
from benchmarks.hostile.scenario import Scenario
from benchmarks.hostile.surroundings.clocks import jumping_clock
from benchmarks.hostile.surroundings.disks import redis_on_a_full_disk, sqlite_on_a_full_disk
from benchmarks.hostile.surroundings.limits import descriptors, memory
from benchmarks.hostile.surroundings.logs import STOPPED_SECONDS, killed_redis, stopped_redis
from benchmarks.hostile.surroundings.networks import bad_network

_SLOWHTTPTEST = (program("slowhttptest"),)
_REDIS = (program("redis-server"),)

#: Large events: they fill what the kernel buffers for a client within a second.
_BULK = 4096

_BEFORE_REQUESTS = (
    Scenario("silent", "silent"),
    Scenario("slow heads", "slow_heads"),
    Scenario("large heads", "large_heads"),
    Scenario("garbage", "garbage", share=0.1),
    Scenario("stalled handshakes", "stalled_handshakes", tls=True, memory=128),
    Scenario("slow handshakes", "slow_handshakes", tls=True, memory=128),
    Scenario("silent after a handshake", "silent_after_handshake", share=0.2, tls=True, memory=128),
    Scenario("slowhttptest, slow heads", "-H -i 1 -x 24 /live", needs=_SLOWHTTPTEST),
)

_BODIES = (
    Scenario("slow bodies", "slow_bodies"),
    Scenario("slow chunks", "slow_chunks"),
    Scenario("unfinished bodies", "unfinished_bodies", deadline=80, memory=400),
    Scenario("unfinished bodies to an app", "unfinished_app_bodies", deadline=30, memory=96),
    # A WebSocket may take any time for a message, as it may be idle for any time.
    Scenario("unfinished messages", "unfinished_messages", leaves=True, deadline=10, memory=400),
    Scenario("tiny chunks", "tiny_chunks", share=0.05),
    Scenario("slowhttptest, slow bodies", "-B -i 1 -s 8192 -x 10 /upload", needs=_SLOWHTTPTEST),
)

_READERS = (
    Scenario("zero windows: streams", "unread_streams", bulk=_BULK, deadline=14),
    # Requests that wait for room may do so for ten seconds, and then the client reads nothing.
    Scenario("zero windows: responses", "unread_responses", deadline=24, memory=320),
    Scenario(
        "zero windows beside readers",
        "responses_that_some_read",
        share=0.3,
        deadline=24,
        memory=128,
        options=("--pending", "64"),
    ),
    Scenario("zero windows: an app's responses", "unread_app_responses", deadline=14, memory=320),
    Scenario("zero windows: WebSockets", "unread_websockets", bulk=_BULK, deadline=14),
    Scenario("a byte a second: streams", "slowly_read_streams", bulk=_BULK, leaves=True, deadline=5),
    Scenario("a byte a second: responses", "slowly_read_responses", leaves=True, deadline=5, memory=320),
    Scenario("pipelines without readers", "unread_pipelines", share=0.1, deadline=14),
    Scenario("slowhttptest, ranges", "-R -a 1 -b 1000 /large", leaves=True, memory=320, needs=_SLOWHTTPTEST),
    Scenario(
        "slowhttptest, slow reads", "-X -w 1 -y 10 -n 1 -z 5 -k 3 /large", memory=320, needs=_SLOWHTTPTEST
    ),
)

_FLOODS = (
    Scenario("resets of connections", "connection_resets", share=0.1),
    Scenario("resets of streams", "stream_resets", share=0.1),
    Scenario("bytes after streams", "bytes_after_streams", share=0.05),
    Scenario("requests", "requests", share=0.05),
    Scenario("pings of WebSockets", "websocket_pings", share=0.05, deadline=14),
    Scenario("fragments of WebSockets", "websocket_fragments", share=0.05, leaves=True, deadline=5),
)

_HTTP2 = (
    Scenario("HTTP/2, shut windows", "http2_shut_windows", share=0.1, bulk=_BULK, deadline=24),
    Scenario(
        "HTTP/2, shut windows: responses",
        "http2_shut_windows_of_responses",
        share=0.1,
        deadline=24,
        memory=320,
    ),
    Scenario("HTTP/2, a byte a second", "http2_slow_windows", share=0.1, bulk=_BULK, leaves=True, deadline=5),
    Scenario("HTTP/2, unread", "http2_unread_http2", share=0.1, bulk=_BULK, deadline=24),
    Scenario("HTTP/2, unread PINGs", "http2_unread_pings", share=0.1, deadline=14),
    *(
        Scenario(f"HTTP/2, flood of {name}", f"http2_{name.replace(' ', '_')}", share=0.05)
        for name in (
            "rapid resets",
            "pings",
            "settings",
            "empty data",
            "continuations",
            "header bombs",
            "priorities",
            "window updates",
        )
    ),
)

_OUTAGE = 2 * STOPPED_SECONDS

_SURROUNDINGS = (
    Scenario(
        "no descriptors left", "silent", admits=False, surround=descriptors(100), needs=(program("prlimit"),)
    ),
    Scenario(
        "192 MiB of memory, unread responses",
        "unread_responses",
        deadline=24,
        memory=128,
        options=("--pending", "32"),
        surround=memory(192),
        needs=(root, memory_cgroup),
    ),
    Scenario(
        "192 MiB of memory, unfinished bodies",
        "unfinished_bodies",
        deadline=80,
        memory=128,
        options=("--pending", "32"),
        surround=memory(192),
        needs=(root, memory_cgroup),
    ),
    Scenario("a clock that jumps", surround=jumping_clock, needs=(libfaketime,)),
    Scenario("a stopped Redis", within=_OUTAGE, surround=stopped_redis, needs=_REDIS),
    Scenario("a killed Redis", within=_OUTAGE, surround=killed_redis, needs=_REDIS),
    Scenario(
        "a full disk of SQLite",
        within=_OUTAGE,
        bulk=_BULK,
        spare=2,
        surround=sqlite_on_a_full_disk,
        needs=(root,),
    ),
    Scenario(
        "a full disk of Redis",
        within=_OUTAGE,
        bulk=_BULK,
        surround=redis_on_a_full_disk,
        needs=(root, *_REDIS),
    ),
    Scenario(
        "a network that loses, delays, reorders and cuts",
        surround=bad_network,
        needs=(root, tun, program("ip")),
    ),
)

#: In the order in which they run.
SCENARIOS: Sequence[Scenario] = (
    *_BEFORE_REQUESTS,
    *_BODIES,
    *_READERS,
    *_FLOODS,
    *_HTTP2,
    *_SURROUNDINGS,
)
