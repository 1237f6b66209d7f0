"""`trio-sse doctor`: what bounds the streams of this machine, and the commands that raise each bound.

All is read, and nothing is changed. What the system doesn't tell is said to be unknown, and bounds nothing.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from ._available_memory import available_memory
from ._descriptors import descriptor_limit
from ._proc import Proc

#: Bytes for each idle stream, as `python -m benchmarks.idle_memory` measures them: the process's own, and
#: the kernel's, for the server's end of the connection.
PROCESS_BYTES = 6.7 * 1024
KERNEL_BYTES = 4.1 * 1024

_SPARE_DESCRIPTORS = 50  # listening sockets, log files, what the app has open
_PAGE = 4096
_MEMORY_SHARE = 0.8  # of what is available; the rest is for queues, bursts and others


@dataclass(frozen=True)
class Finding:
    """One bound.

    Attributes:
        holds: the streams that it lets this machine have; `None` if it bounds none, or is unknown.
        advice: the commands that raise it; empty if there are none, or none is needed.
    """

    name: str
    value: str
    holds: int | None
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All bounds, and what they come to."""

    wanted: int
    findings: tuple[Finding, ...]
    facts: dict[str, str]

    @property
    def tightest(self) -> Finding | None:
        """The bound that is met first."""
        bounding = [finding for finding in self.findings if finding.holds is not None]
        return min(bounding, key=lambda finding: finding.holds or 0, default=None)

    @property
    def is_fine(self) -> bool:
        """Whether as many streams as are wanted can be held, as far as that can be told."""
        tightest = self.tightest
        return tightest is None or (tightest.holds or 0) >= self.wanted

    def as_json(self) -> dict[str, object]:
        """Give all of it for JSON."""
        return {
            "wanted": self.wanted,
            "is_fine": self.is_fine,
            "tightest": None if self.tightest is None else self.tightest.name,
            "findings": [asdict(finding) for finding in self.findings],
            "facts": self.facts,
        }


def examine(
    wanted: int, *, root: Path = Path("/"), limit_of: Callable[[], int | None] = descriptor_limit
) -> Diagnosis:
    """Look at this machine; `root` is where /proc and /sys are."""
    proc = Proc(root)
    findings = (
        _descriptors(wanted, limit_of()),
        _system_files(wanted, proc),
        _memory(wanted, proc),
        _tcp_memory(wanted, proc),
        _backlog(wanted, proc),
        _ports(proc),
        _conntrack(wanted, proc),
    )
    return Diagnosis(wanted, tuple(finding for finding in findings if finding is not None), _facts(proc))


def _descriptors(wanted: int, limit: int | None) -> Finding:
    needed = wanted + _SPARE_DESCRIPTORS
    return Finding(
        "file descriptors of a process",
        "unlimited" if limit is None else f"{limit:,}",
        None if limit is None else max(0, limit - _SPARE_DESCRIPTORS),
        f"ulimit -n {needed}   # for a service: LimitNOFILE={needed} in its unit; "
        f"docker run --ulimit nofile={needed}; or trio-sse serve --workers",
    )


def _system_files(wanted: int, proc: Proc) -> Finding | None:
    limit = proc.number("proc/sys/fs/file-max")
    if limit is None:
        return None
    return Finding(
        "open files of the system", f"{limit:,}", limit, f"sysctl -w fs.file-max={2 * (wanted + 1000)}"
    )


def _memory(wanted: int, proc: Proc) -> Finding:
    available = available_memory(proc)
    each = PROCESS_BYTES + KERNEL_BYTES
    return Finding(
        "memory available",
        "unknown" if available is None else f"{available / 2**30:.1f} GiB",
        None if available is None else int(available * _MEMORY_SHARE / each),
        f"{wanted:,} idle streams take {wanted * each / 2**30:.2f} GiB, measured {each / 1024:.1f} KiB each",
    )


def _tcp_memory(wanted: int, proc: Proc) -> Finding | None:
    pages = proc.numbers("proc/sys/net/ipv4/tcp_mem")
    if len(pages) != 3:
        return None
    # An idle stream has no bytes in buffers. One that does not read has up to `send_buffer`; say one in ten.
    each = 64 * 1024 / 10
    needed = int(wanted * each / _PAGE)
    return Finding(
        "memory for TCP buffers",
        f"{pages[2] * _PAGE / 2**30:.1f} GiB, where one reader in ten is slow",
        int(pages[2] * _PAGE / each),
        f"sysctl -w net.ipv4.tcp_mem='{needed // 2} {needed} {2 * needed}'   # in pages of 4 KiB",
    )


def _backlog(wanted: int, proc: Proc) -> Finding | None:
    somaxconn = proc.number("proc/sys/net/core/somaxconn")
    if somaxconn is None:
        return None
    syn = proc.number("proc/sys/net/ipv4/tcp_max_syn_backlog")
    told = f"{somaxconn:,} to be accepted, {'unknown' if syn is None else f'{syn:,}'} in their handshake"
    wish = max(4096, min(65_535, wanted // 4))
    advice = ""
    if somaxconn < wish:
        both = f"net.core.somaxconn={wish} net.ipv4.tcp_max_syn_backlog={wish}"
        advice = f"sysctl -w {both}   # for a rush of reconnects"
    return Finding("queue of new connections", told, None, advice)


def _ports(proc: Proc) -> Finding | None:
    span = proc.numbers("proc/sys/net/ipv4/ip_local_port_range")
    if len(span) != 2:
        return None
    count = span[1] - span[0] + 1
    return Finding(
        "ports of one client address",
        f"{count:,}",
        None,  # it is the clients' bound, and a proxy's in front of the server
        "a proxy or load tool needs more source addresses beyond that, or: "
        "sysctl -w net.ipv4.ip_local_port_range='1024 65535'",
    )


def _conntrack(wanted: int, proc: Proc) -> Finding | None:
    limit = proc.number("proc/sys/net/netfilter/nf_conntrack_max")
    if limit is None:
        return None
    return Finding(
        "connections that the firewall tracks",
        f"{limit:,}",
        limit,
        f"sysctl -w net.netfilter.nf_conntrack_max={2 * (wanted + 1000)}",
    )


def _facts(proc: Proc) -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "cores": str(os.cpu_count() or "unknown"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "trio": _version("trio"),
        "h11": _version("h11"),
        "hang-ups by epoll": "yes" if sys.platform == "linux" else "no: a task for each stream reads",
        "TCP_USER_TIMEOUT": "yes"
        if hasattr(socket, "TCP_USER_TIMEOUT")
        else "no: a vanished peer is cut by us alone",
        "swappiness": proc.text("proc/sys/vm/swappiness") or "unknown",
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def write_diagnosis(diagnosis: Diagnosis, out: IO[str]) -> None:
    """Write what was found, what it comes to, and what to do."""
    for finding in diagnosis.findings:
        holds = "" if finding.holds is None else f"   holds {finding.holds:,} streams"
        out.write(f"{finding.name:38}{finding.value}{holds}\n")
        is_short = finding.holds is not None and finding.holds < diagnosis.wanted
        if finding.advice and (is_short or finding.holds is None):
            out.write(f"    {finding.advice}\n")
    out.write("\n")
    for name, value in diagnosis.facts.items():
        out.write(f"{name:38}{value}\n")
    tightest = diagnosis.tightest
    held = "unknown" if tightest is None else f"{tightest.holds:,} streams, by its {tightest.name}"
    out.write(f"\nThis machine holds {held}; wanted are {diagnosis.wanted:,}: ")
    out.write("fine.\n" if diagnosis.is_fine else "not enough.\n")
