"""`trio-sse doctor`: which limits of this machine bound the number of streams, and how to raise them.

It changes nothing except this process's own soft limit of file descriptors, which `trio-sse serve` raises as
well. A limit that cannot be read is reported as unknown, and counts as no limit.

The advice never lowers a limit, and never sets a value that the system would refuse.
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

from .._process.descriptors import raise_descriptor_limit
from .memory import available_memory
from .procfs import Proc

#: Bytes per idle stream, as measured by `python -m benchmarks.scale`: in the process, and in the kernel for
#: the server's end of the connection.
PROCESS_BYTES = 6.8 * 1024
KERNEL_BYTES = 5.0 * 1024

_SPARE_DESCRIPTORS = 50  # listening sockets, log files, what the app has open
_MOST_DESCRIPTORS = 2**31 - 64  # the largest value of fs.nr_open (fs/file.c, sysctl_nr_open_max)
_PAGE = 4096
_MEMORY_SHARE = 0.8  # the rest is for queues, bursts and other programs


@dataclass(frozen=True)
class Finding:
    """One limit.

    Attributes:
        holds: the number of streams that it allows, or `None` if it is unknown or does not limit streams.
        advice: lines with commands that raise it; empty if it is high enough, or cannot be raised.
    """

    name: str
    value: str
    holds: int | None
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All limits, compared with the number of streams that are wanted."""

    wanted: int
    findings: tuple[Finding, ...]
    facts: dict[str, str]

    @property
    def tightest(self) -> Finding | None:
        """The limit that is reached first."""
        limiting = [finding for finding in self.findings if finding.holds is not None]
        return min(limiting, key=lambda finding: finding.holds or 0, default=None)

    @property
    def is_fine(self) -> bool:
        """Whether no known limit is below the number of streams that are wanted."""
        tightest = self.tightest
        return tightest is None or (tightest.holds or 0) >= self.wanted

    def as_json(self) -> dict[str, object]:
        """Return the diagnosis for JSON."""
        return {
            "wanted": self.wanted,
            "is_fine": self.is_fine,
            "tightest": None if self.tightest is None else self.tightest.name,
            "findings": [asdict(finding) for finding in self.findings],
            "facts": self.facts,
        }


def examine(
    wanted: int, *, root: Path = Path("/"), limit_of: Callable[[], int | None] = raise_descriptor_limit
) -> Diagnosis:
    """Read the limits of this machine. /proc and /sys are in the folder `root`."""
    proc = Proc(root)
    findings = (
        _descriptors(wanted, limit_of(), proc),
        _system_files(wanted, proc),
        _memory(wanted, proc),
        _tcp_memory(wanted, proc),
        _backlog(wanted, proc),
        _ports(wanted, proc),
        _conntrack(wanted, proc),
    )
    return Diagnosis(wanted, tuple(finding for finding in findings if finding is not None), _facts(proc))


def _finding(wanted: int, name: str, value: str, holds: int | None, advice: str) -> Finding:
    """Return a limit, with advice only if it is too low."""
    return Finding(name, value, holds, "" if holds is None or holds >= wanted else advice)


def _descriptors(wanted: int, limit: int | None, proc: Proc) -> Finding:
    needed = wanted + _SPARE_DESCRIPTORS
    advice = (
        f"LimitNOFILE={needed} in a systemd unit; docker run --ulimit nofile={needed}; "
        f"ulimit -n {needed}, as root; '* hard nofile {needed}' in /etc/security/limits.d/, for logins; "
        "or trio-sse serve --workers"
    )
    nr_open = proc.number("proc/sys/fs/nr_open")
    if needed > _MOST_DESCRIPTORS:
        advice = "trio-sse serve --workers: one process cannot have as many"
    elif nr_open is not None and needed > nr_open:
        advice = f"sysctl -w fs.nr_open={needed}   # first, because no process may have more\n{advice}"
    return _finding(
        wanted,
        "file descriptors per process",
        "unlimited" if limit is None else f"{limit:,}",
        None if limit is None else max(0, limit - _SPARE_DESCRIPTORS),
        advice,
    )


def _system_files(wanted: int, proc: Proc) -> Finding | None:
    limit = proc.number("proc/sys/fs/file-max")
    if limit is None:
        return None
    advice = f"sysctl -w fs.file-max={2 * (wanted + 1000)}"
    return _finding(wanted, "open files, system-wide", f"{limit:,}", limit, advice)


def _memory(wanted: int, proc: Proc) -> Finding:
    available = available_memory(proc)
    each = PROCESS_BYTES + KERNEL_BYTES
    return _finding(
        wanted,
        "available memory",
        "unknown" if available is None else f"{available / 2**30:.1f} GiB",
        None if available is None else int(available * _MEMORY_SHARE / each),
        f"{wanted:,} idle streams need {wanted * each / 2**30:.2f} GiB, {each / 1024:.1f} KiB each",
    )


def _tcp_memory(wanted: int, proc: Proc) -> Finding | None:
    current = proc.numbers("proc/sys/net/ipv4/tcp_mem")
    if len(current) != 3:
        return None
    # An idle stream has no bytes in buffers. If a client does not read, its stream has up to `send_buffer`.
    # We count one such client in ten.
    each = 64 * 1024 / 10
    needed = int(wanted * each / _PAGE)
    pages = " ".join(str(max(pair)) for pair in zip(current, (needed // 2, needed, 2 * needed), strict=True))
    return _finding(
        wanted,
        "memory for TCP buffers",
        f"{current[2] * _PAGE / 2**30:.1f} GiB, if one client in ten is slow",
        int(current[2] * _PAGE / each),
        f"sysctl -w net.ipv4.tcp_mem='{pages}'   # in pages of 4 KiB",
    )


def _backlog(wanted: int, proc: Proc) -> Finding | None:
    complete = proc.number("proc/sys/net/core/somaxconn")
    if complete is None:
        return None
    in_handshake = proc.number("proc/sys/net/ipv4/tcp_max_syn_backlog")
    value = f"{complete:,}, and {'unknown' if in_handshake is None else f'{in_handshake:,}'} in the handshake"
    needed = max(4096, min(65_535, wanted // 4))
    settings = (("net.core.somaxconn", complete), ("net.ipv4.tcp_max_syn_backlog", in_handshake))
    low = [f"{name}={needed}" for name, current in settings if current is not None and current < needed]
    advice = f"sysctl -w {' '.join(low)}   # for when all clients reconnect at once" if low else ""
    return Finding("queue of new connections", value, None, advice)


def _ports(wanted: int, proc: Proc) -> Finding | None:
    span = proc.numbers("proc/sys/net/ipv4/ip_local_port_range")
    if len(span) != 2:
        return None
    first, last = span
    count = last - first + 1
    advice = ""
    if count < wanted:
        advice = f"a proxy or load tool needs {_ceil(wanted, count)} source addresses for as many"
        widest = (min(first, 1024), max(last, 65_535))
        if widest != (first, last):
            fewer = _ceil(wanted, widest[1] - widest[0] + 1)
            advice += (
                f"; or {fewer} after: sysctl -w net.ipv4.ip_local_port_range='{widest[0]} {widest[1]}'   "
                "# list the ports of services in net.ipv4.ip_local_reserved_ports"
            )
    # This limits clients, and a proxy in front of the server, but not the server itself.
    return Finding("ports per client address", f"{count:,}", None, advice)


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _conntrack(wanted: int, proc: Proc) -> Finding | None:
    limit = proc.number("proc/sys/net/netfilter/nf_conntrack_max")
    if limit is None:
        return None
    advice = f"sysctl -w net.netfilter.nf_conntrack_max={2 * (wanted + 1000)}"
    return _finding(wanted, "connections tracked by the firewall", f"{limit:,}", limit, advice)


def _facts(proc: Proc) -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "cores": str(os.cpu_count() or "unknown"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "trio": _version("trio"),
        "h11": _version("h11"),
        "disconnects by epoll": "yes" if sys.platform == "linux" else "no: one task per stream reads",
        "TCP_USER_TIMEOUT": "yes"
        if hasattr(socket, "TCP_USER_TIMEOUT")
        else "no: only write timeouts detect a client that vanished",
        "swappiness": proc.text("proc/sys/vm/swappiness") or "unknown",
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def write_diagnosis(diagnosis: Diagnosis, out: IO[str]) -> None:
    """Write the limits, what to do about them, and the conclusion."""
    for finding in diagnosis.findings:
        holds = "" if finding.holds is None else f"   holds {finding.holds:,} streams"
        out.write(f"{finding.name:38}{finding.value}{holds}\n")
        for line in finding.advice.splitlines():
            out.write(f"    {line}\n")
    out.write("\n")
    for name, value in diagnosis.facts.items():
        out.write(f"{name:38}{value}\n")
    tightest = diagnosis.tightest
    verdict = "enough" if diagnosis.is_fine else "not enough"
    if tightest is None:
        out.write("\nNo limit is known for the number of streams on this machine")
    else:
        out.write(f"\nThis machine holds {tightest.holds:,} streams, limited by {tightest.name}")
    out.write(f": {verdict} for {diagnosis.wanted:,}.\n")
