"""`trio-sse doctor`, on a machine that the test describes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trio_sse._tools.doctor import Diagnosis, examine, write_diagnosis

from ..support.programs import running, trio_sse

MachineOf = Callable[..., Path]

FILES = {
    "proc/sys/fs/file-max": "1000000",
    "proc/sys/fs/nr_open": "1048576",
    "proc/self/cgroup": "0::/",
    "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    8388608 kB",
    "proc/sys/net/ipv4/tcp_mem": "100000 150000 200000",
    "proc/sys/net/core/somaxconn": "4096",
    "proc/sys/net/ipv4/tcp_max_syn_backlog": "1024",
    "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999",
    "proc/sys/net/netfilter/nf_conntrack_max": "65536",
    "proc/sys/vm/swappiness": "60",
}


@pytest.fixture
def machine_of(tmp_path: Path) -> MachineOf:
    def make(**changed: str | None) -> Path:
        files = {**FILES, **{name.replace("__", "/"): text for name, text in changed.items()}}
        for name, text in files.items():
            if text is not None:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
        return tmp_path

    return make


def written(diagnosis: Diagnosis) -> str:
    out = io.StringIO()
    write_diagnosis(diagnosis, out)
    return out.getvalue()


def test_a_machine_with_high_limits_is_fine(machine_of: MachineOf) -> None:
    diagnosis = examine(10_000, root=machine_of(), limit_of=lambda: 20_000)
    assert diagnosis.is_fine
    assert diagnosis.tightest is not None
    assert (diagnosis.tightest.name, diagnosis.tightest.holds) == ("file descriptors per process", 19_950)
    text = written(diagnosis)
    assert (
        "This machine holds 19,950 streams, limited by file descriptors per process: enough for 10,000."
        in text
    )
    assert "ulimit" not in text


@pytest.mark.parametrize(
    ("changed", "limit", "name", "advice"),
    [
        ({}, 1024, "file descriptors per process", "LimitNOFILE=10050"),
        ({"proc__sys__fs__file-max": "500"}, None, "open files, system-wide", "sysctl -w fs.file-max=22000"),
        (
            {"proc__meminfo": "MemAvailable: 10000 kB"},
            None,
            "available memory",
            "10,000 idle streams need",
        ),
        (
            {"proc__sys__net__ipv4__tcp_mem": "1 2 3"},
            None,
            "memory for TCP buffers",
            "sysctl -w net.ipv4.tcp_mem",
        ),
        (
            {"proc__sys__net__netfilter__nf_conntrack_max": "100"},
            None,
            "connections tracked by the firewall",
            "sysctl -w net.netfilter.nf_conntrack_max=22000",
        ),
        (
            {"sys__fs__cgroup__memory.max": "1048576", "sys__fs__cgroup__memory.current": "548576"},
            None,
            "available memory",
            "10,000 idle streams",
        ),
    ],
)
def test_a_low_limit_is_reported_with_advice(
    machine_of: MachineOf, changed: dict[str, str], limit: int | None, name: str, advice: str
) -> None:
    diagnosis = examine(10_000, root=machine_of(**changed), limit_of=lambda: limit)
    assert not diagnosis.is_fine
    assert diagnosis.tightest is not None
    assert diagnosis.tightest.name == name
    assert advice in written(diagnosis)
    assert written(diagnosis).endswith(": not enough for 10,000.\n")


# Limits


@pytest.mark.integration
def test_the_descriptor_limit_is_the_one_that_serve_gets() -> None:
    command = f"ulimit -Sn 256 && ulimit -Hn 4096 && exec {sys.executable} -m trio_sse doctor -c 4046 --json"
    with running(["sh", "-c", command]) as doctor:
        report = json.loads(doctor.stdout.rest())
    assert report["findings"][0] == {
        "name": "file descriptors per process",
        "value": "4,096",
        "holds": 4046,
        "advice": "",
    }


GIB = 2**30
GROUP = "sys__fs__cgroup__app.slice__web.service__"
OUTER = "sys__fs__cgroup__app.slice__"
ROOT = "sys__fs__cgroup__"
FIRST = "sys__fs__cgroup__memory__docker__1__memory."


@pytest.mark.parametrize(
    ("files", "gibibytes"),
    [
        pytest.param({}, 8, id="no group"),
        pytest.param({f"{GROUP}memory.max": f"{3 * GIB}", f"{GROUP}memory.current": f"{GIB}"}, 2, id="own"),
        pytest.param(
            {
                f"{GROUP}memory.max": f"{3 * GIB}",
                f"{GROUP}memory.current": f"{2 * GIB}",
                f"{GROUP}memory.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file 7",
            },
            2,
            id="cache is not used",
        ),
        pytest.param(
            {
                f"{GROUP}memory.max": f"{4 * GIB}",
                f"{GROUP}memory.current": "0",
                f"{OUTER}memory.max": f"{6 * GIB}",
                f"{OUTER}memory.current": f"{5 * GIB}",
            },
            1,
            id="a parent group has less",
        ),
        pytest.param({f"{GROUP}memory.max": "max", f"{GROUP}memory.current": "5"}, 8, id="no limit"),
        pytest.param(
            {f"{ROOT}memory.max": f"{GIB}", f"{ROOT}memory.current": "0"}, 1, id="a container's root"
        ),
        pytest.param(
            {f"{GROUP}memory.max": f"{GIB}", f"{GROUP}memory.current": f"{2 * GIB}"},
            0,
            id="over",
        ),
        pytest.param(
            {
                "proc__self__cgroup": "5:cpu,cpuacct:/\n4:hugetlb,memory:/docker/1\n1:name=x:/a:b\n0::/",
                f"{FIRST}limit_in_bytes": f"{3 * GIB}",
                f"{FIRST}usage_in_bytes": f"{2 * GIB}",
                f"{FIRST}stat": f"inactive_file 9\ntotal_inactive_file {GIB}",
            },
            2,
            id="version 1",
        ),
        pytest.param(
            {
                "proc__self__cgroup": "4:memory:/docker/1",
                "sys__fs__cgroup__memory__memory.limit_in_bytes": f"{2 * GIB}",
                "sys__fs__cgroup__memory__memory.usage_in_bytes": "0",
            },
            2,
            id="a container's root, version 1",
        ),
    ],
)
def test_memory_respects_the_control_groups(
    machine_of: MachineOf, files: dict[str, str], gibibytes: int
) -> None:
    files = {"proc__self__cgroup": "0::/app.slice/web.service", **files}
    found = examine(10_000, root=machine_of(**files), limit_of=lambda: None).findings
    assert [f.value for f in found if f.name == "available memory"] == [f"{gibibytes}.0 GiB"]


# Advice


def advice_of(root: Path, wanted: int, name: str, limit: int | None = None) -> str:
    found = examine(wanted, root=root, limit_of=lambda: limit).findings
    return next(finding.advice for finding in found if finding.name == name)


def test_limits_that_are_high_enough_get_no_advice(machine_of: MachineOf) -> None:
    root = machine_of(proc__sys__net__ipv4__tcp_max_syn_backlog="4096")
    assert [f.advice for f in examine(10_000, root=root, limit_of=lambda: 20_000).findings] == [""] * 7


def test_more_descriptors_than_nr_open_need_nr_open_first(machine_of: MachineOf) -> None:
    name = "file descriptors per process"
    within = advice_of(machine_of(), 1_048_526, name, 1024)
    assert "nr_open" not in within
    assert "LimitNOFILE=1048576" in within
    first, then = advice_of(machine_of(), 1_048_527, name, 1024).splitlines()
    assert first.startswith("sysctl -w fs.nr_open=1048577 ")
    assert then.startswith("LimitNOFILE=1048577 ")
    beyond = advice_of(machine_of(), 2**31, name, 1024)
    assert beyond == "trio-sse serve --workers: one process cannot have as many"


def test_the_advice_never_lowers_a_limit(machine_of: MachineOf) -> None:
    root = machine_of(
        proc__sys__net__ipv4__tcp_mem="13000 14000 15000",
        proc__sys__net__core__somaxconn="128",
        proc__sys__net__ipv4__tcp_max_syn_backlog="8192",
        proc__sys__net__ipv4__ip_local_port_range="500 60999",
    )
    assert "tcp_mem='13000 16000 32000'" in advice_of(root, 10_000, "memory for TCP buffers")
    queue = advice_of(root, 10_000, "queue of new connections")
    assert queue == "sysctl -w net.core.somaxconn=4096   # for when all clients reconnect at once"
    assert "ip_local_port_range='500 65535'" in advice_of(root, 65_000, "ports per client address")


def test_too_few_ports_get_advice(machine_of: MachineOf) -> None:
    name = "ports per client address"
    assert advice_of(machine_of(), 28_232, name) == ""
    advice = advice_of(machine_of(), 28_233, name)
    assert advice.startswith(
        "a proxy or load tool needs 2 source addresses for as many; or 1 after: sysctl -w "
    )
    assert "ip_local_port_range='1024 65535'" in advice
    widest = machine_of(proc__sys__net__ipv4__ip_local_port_range="1024 65535")
    assert advice_of(widest, 65_000, name) == "a proxy or load tool needs 2 source addresses for as many"


def test_a_short_queue_of_new_connections_gets_advice(machine_of: MachineOf) -> None:
    root = machine_of(proc__sys__net__core__somaxconn="128")
    text = written(examine(10_000, root=root, limit_of=lambda: None))
    assert "sysctl -w net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=4096" in text


def test_unknown_limits_count_as_none(tmp_path: Path) -> None:
    diagnosis = examine(10**9, root=tmp_path, limit_of=lambda: None)
    assert diagnosis.is_fine
    assert diagnosis.tightest is None
    assert (
        "No limit is known for the number of streams on this machine: enough for 1,000,000,000."
        in written(diagnosis)
    )


@pytest.mark.integration
@pytest.mark.parametrize(("wanted", "code"), [("10", 0), ("1000000000", 1)])
def test_the_exit_code_is_the_verdict(wanted: str, code: int) -> None:
    with trio_sse("doctor", "--connections", wanted, "--json") as doctor:
        assert doctor.wait() == code
        report = json.loads(doctor.stdout.rest())
    assert report["is_fine"] == (code == 0)
    assert report["facts"]["python"]
