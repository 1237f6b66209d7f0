"""`trio-sse doctor`: what bounds the streams of this machine, and the commands that raise each bound.

All is read, and nothing is changed, but this process's own soft limit of descriptors, which `trio-sse serve`
raises as well. What the system doesn't tell is said to be unknown, and bounds nothing.

A command that is advised gives no bound a lower value than it has, nor one that the command can't set.
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

#: Bytes for each idle stream, as `python -m benchmarks.scale` measures them: the process's own, and the
#: kernel's, for the server's end of the connection.
PROCESS_BYTES = 6.8 * 1024
KERNEL_BYTES = 5.0 * 1024

_SPARE_DESCRIPTORS = 50  # listening sockets, log files, what the app has open
_MOST_DESCRIPTORS = 2**31 - 64  # to which fs.nr_open can be set (fs/file.c, sysctl_nr_open_max)
_PAGE = 4096
_MEMORY_SHARE = 0.8  # of what is available; the rest is for queues, bursts and others


@dataclass(frozen=True)
class Finding:
    """One bound.

    Attributes:
        holds: the streams that it lets this machine have; `None` if it bounds none, or is unknown.
        advice: the commands that raise it, in lines; empty if there are none, or none is needed.
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
    wanted: int, *, root: Path = Path("/"), limit_of: Callable[[], int | None] = raise_descriptor_limit
) -> Diagnosis:
    """Look at this machine; `root` is where /proc and /sys are."""
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


def _bound(wanted: int, name: str, value: str, holds: int | None, advice: str) -> Finding:
    """Give a bound, with its advice only if it is too low."""
    return Finding(name, value, holds, "" if holds is None or holds >= wanted else advice)


def _descriptors(wanted: int, limit: int | None, proc: Proc) -> Finding:
    needed = wanted + _SPARE_DESCRIPTORS
    advice = (
        f"LimitNOFILE={needed} in the unit of a service; docker run --ulimit nofile={needed}; "
        f"as root: ulimit -n {needed}; for logins: '* hard nofile {needed}' in /etc/security/limits.d/; "
        "or trio-sse serve --workers"
    )
    nr_open = proc.number("proc/sys/fs/nr_open")
    if needed > _MOST_DESCRIPTORS:
        advice = "trio-sse serve --workers: no process can have so many"
    elif nr_open is not None and needed > nr_open:
        advice = f"sysctl -w fs.nr_open={needed}   # first, as no process may have more\n{advice}"
    return _bound(
        wanted,
        "file descriptors of a process",
        "unlimited" if limit is None else f"{limit:,}",
        None if limit is None else max(0, limit - _SPARE_DESCRIPTORS),
        advice,
    )


def _system_files(wanted: int, proc: Proc) -> Finding | None:
    limit = proc.number("proc/sys/fs/file-max")
    if limit is None:
        return None
    advice = f"sysctl -w fs.file-max={2 * (wanted + 1000)}"
    return _bound(wanted, "open files of the system", f"{limit:,}", limit, advice)


def _memory(wanted: int, proc: Proc) -> Finding:
    available = available_memory(proc)
    each = PROCESS_BYTES + KERNEL_BYTES
    return _bound(
        wanted,
        "memory available",
        "unknown" if available is None else f"{available / 2**30:.1f} GiB",
        None if available is None else int(available * _MEMORY_SHARE / each),
        f"{wanted:,} idle streams take {wanted * each / 2**30:.2f} GiB, measured {each / 1024:.1f} KiB each",
    )


def _tcp_memory(wanted: int, proc: Proc) -> Finding | None:
    there = proc.numbers("proc/sys/net/ipv4/tcp_mem")
    if len(there) != 3:
        return None
    # An idle stream has no bytes in buffers. One that does not read has up to `send_buffer`; say one in ten.
    each = 64 * 1024 / 10
    needed = int(wanted * each / _PAGE)
    pages = " ".join(str(max(pair)) for pair in zip(there, (needed // 2, needed, 2 * needed), strict=True))
    return _bound(
        wanted,
        "memory for TCP buffers",
        f"{there[2] * _PAGE / 2**30:.1f} GiB, where one reader in ten is slow",
        int(there[2] * _PAGE / each),
        f"sysctl -w net.ipv4.tcp_mem='{pages}'   # in pages of 4 KiB",
    )


def _backlog(wanted: int, proc: Proc) -> Finding | None:
    accepted = proc.number("proc/sys/net/core/somaxconn")
    if accepted is None:
        return None
    shaken = proc.number("proc/sys/net/ipv4/tcp_max_syn_backlog")
    told = f"{accepted:,} to be accepted, {'unknown' if shaken is None else f'{shaken:,}'} in their handshake"
    wish = max(4096, min(65_535, wanted // 4))
    settings = (("net.core.somaxconn", accepted), ("net.ipv4.tcp_max_syn_backlog", shaken))
    short = [f"{name}={wish}" for name, there in settings if there is not None and there < wish]
    advice = f"sysctl -w {' '.join(short)}   # for a rush of reconnects" if short else ""
    return Finding("queue of new connections", told, None, advice)


def _ports(wanted: int, proc: Proc) -> Finding | None:
    span = proc.numbers("proc/sys/net/ipv4/ip_local_port_range")
    if len(span) != 2:
        return None
    first, last = span
    count = last - first + 1
    advice = ""
    if count < wanted:
        advice = f"a proxy or load tool takes {_ceil(wanted, count)} source addresses for so many"
        widest = (min(first, 1024), max(last, 65_535))
        if widest != (first, last):
            fewer = _ceil(wanted, widest[1] - widest[0] + 1)
            advice += (
                f"; {fewer} after: sysctl -w net.ipv4.ip_local_port_range='{widest[0]} {widest[1]}'   "
                "# with the ports of services in net.ipv4.ip_local_reserved_ports"
            )
    # It is the clients' bound, and a proxy's in front of the server: it holds this machine to none.
    return Finding("ports of one client address", f"{count:,}", None, advice)


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _conntrack(wanted: int, proc: Proc) -> Finding | None:
    limit = proc.number("proc/sys/net/netfilter/nf_conntrack_max")
    if limit is None:
        return None
    advice = f"sysctl -w net.netfilter.nf_conntrack_max={2 * (wanted + 1000)}"
    return _bound(wanted, "connections that the firewall tracks", f"{limit:,}", limit, advice)


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
        for line in finding.advice.splitlines():
            out.write(f"    {line}\n")
    out.write("\n")
    for name, value in diagnosis.facts.items():
        out.write(f"{name:38}{value}\n")
    tightest = diagnosis.tightest
    held = "unknown" if tightest is None else f"{tightest.holds:,} streams, by its {tightest.name}"
    out.write(f"\nThis machine holds {held}; wanted are {diagnosis.wanted:,}: ")
    out.write("fine.\n" if diagnosis.is_fine else "not enough.\n")
