"""The sockets that the program listens on, for one process or for several workers.

A worker has TCP sockets of its own for each address: the kernel spreads connections over them
(SO_REUSEPORT). Unix sockets and inherited ones are shared: all workers accept from one queue.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import final

from .._process.handshakes import refuse_handshakes
from .._process.listening_socket import ListeningSocket
from .addresses import DescriptorAddress, TCPAddress, UnixAddress, describe_address, parse_address
from .errors import ProgramError
from .inherited_sockets import take_activated_sockets, take_socket
from .unix_sockets import UnixName, listen_on_path

Address = TCPAddress | UnixAddress

_DEFAULT = "127.0.0.1:8000"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """Where to listen.

    Attributes:
        addresses: those to bind, by the text that names them.
        inherited: the listening sockets that another program has opened, by their descriptors.
        unix_mode: the permissions of Unix sockets.
    """

    addresses: Mapping[str, Address]
    inherited: Mapping[int, socket.socket]
    unix_mode: int


def listen_options(
    addresses: Sequence[str],
    *,
    environment: MutableMapping[str, str] | None = None,
    unix_mode: int = 0o666,
    apart_from: ListenOptions | None = None,
) -> ListenOptions:
    """Return where to listen. Without addresses, that is on systemd's sockets, or else on a default address.

    Call it before the program opens anything: a descriptor that it was not passed must not be one of its own.

    Args:
        environment: from which systemd's variables are taken.
        apart_from: where the program listens for something else.

    Raises:
        ProgramError: an address is malformed or is used for something else, or an inherited socket cannot be
            served.
    """
    inherited = {} if environment is None else take_activated_sockets(environment)
    parsed: dict[str, Address] = {}
    for text in addresses or ([] if inherited else [_DEFAULT]):
        address = parse_address(text)
        if apart_from is not None and _has(apart_from, address):
            raise ProgramError(f"cannot listen on {text}: the program listens there for something else")
        if not isinstance(address, DescriptorAddress):
            parsed[text] = address
        elif address.number not in inherited:
            inherited[address.number] = take_socket(address.number, text)
    return ListenOptions(addresses=parsed, inherited=inherited, unix_mode=unix_mode)


def _has(options: ListenOptions, address: Address | DescriptorAddress) -> bool:
    """Whether a socket is among others. The system itself refuses a TCP port that is in use."""
    if isinstance(address, DescriptorAddress):
        return address.number in options.inherited
    paths = [_real_path(each) for each in options.addresses.values() if isinstance(each, UnixAddress)]
    return isinstance(address, UnixAddress) and _real_path(address) in paths


def _real_path(address: UnixAddress) -> str:
    folder, name = os.path.split(address.path)
    return os.path.join(os.path.realpath(folder), name)


@final
class Listening:
    """Listening sockets.

    Args:
        slots: for how many workers, which have sockets of their own; `None` for one process.

    Attributes:
        slots: the sockets of each worker, or of the one process.
        shared: the sockets that all workers share.
        is_exclusive: no other program has any of them.
    """

    def __init__(self, slots: int | None = None) -> None:
        self.slots: list[list[socket.socket]] = [[] for _ in range(slots or 1)]
        self.shared: list[socket.socket] = []
        self.is_exclusive = True
        self._has_workers = slots is not None
        self._own: list[socket.socket] = []  # of the shared ones
        self._names: list[UnixName] = []

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets of one process, or of the first worker."""
        return [*self.slots[0], *self.shared]

    def describe(self, scheme: str) -> list[str]:
        """Return each address as a URL, or `unix:` and its path."""
        names = [describe_address(each.getsockname()) for each in self.sockets]
        return [name if name.startswith("unix:") else f"{scheme}://{name}" for name in names]

    def open(self, options: ListenOptions) -> None:
        """Listen on each address, and on the inherited sockets.

        Raises:
            ProgramError: an address is not available.
        """
        self.shared += options.inherited.values()
        self.is_exclusive = not options.inherited
        for text, address in options.addresses.items():
            try:
                if isinstance(address, TCPAddress):
                    self._bind(address)
                else:
                    self._bind_path(address, options.unix_mode)
            except BaseException as error:
                self.close()
                if isinstance(error, OSError | UnicodeError):
                    raise _unavailable(text, error) from error
                raise

    def _bind_path(self, address: UnixAddress, mode: int) -> None:
        listening, name = listen_on_path(address.path, mode=mode)
        self.shared.append(listening)
        self._own.append(listening)
        self._names.append(name)

    def _bind(self, given: TCPAddress) -> None:
        """Bind an address once for each slot. Port 0 takes any free port, and the same one in all slots."""
        found = socket.getaddrinfo(given.host, given.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        unsupported: OSError | None = None
        has_bound = False
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                first = _socket(family, kind, protocol)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:  # such as IPv6, where the kernel has none
                    raise
                unsupported = error
                continue
            has_bound = True
            if not self._has_workers:
                self.slots[0].append(first)
                first.bind(address)
                first.listen(socket.SOMAXCONN)
                continue
            with first:  # SO_REUSEPORT would let us share a port with another program: without it, this fails
                first.bind(address)
                address = first.getsockname()  # with the port that the system chose for port 0
            self._bind_slots(family, kind, protocol, address)
        if unsupported is not None and not has_bound:
            raise unsupported

    def _bind_slots(self, family: int, kind: int, protocol: int, address: object) -> None:
        for slot in self.slots:
            listening = _socket(family, kind, protocol)
            slot.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(address)  # type: ignore[arg-type]  # a socket's own
            listening.listen(socket.SOMAXCONN)

    def refuse_new_clients(self) -> None:
        """Refuse new clients, as far as no other program has a socket, and keep those that wait."""
        self.remove_names()
        refuse_handshakes([*self._own, *(each for slot in self.slots for each in slot)])

    def keep_names(self) -> None:
        """Keep the names of Unix sockets, also those that other programs have had: this one serves now."""
        for name in self._names:
            name.keep()

    def remove_names(self) -> None:
        """Remove the names of Unix sockets that are ours, or give them back if they were not kept."""
        while self._names:
            name = self._names.pop()
            with suppress(OSError):
                name.remove()

    def close(self) -> None:
        """Close all sockets, as far as this process has them, and remove what is left."""
        self.remove_names()
        self.close_copies()

    def close_copies(self, *, keep: int | None = None) -> None:
        """Close this process's copies of the sockets, or of those of all slots but one."""
        for number, slot in enumerate(self.slots):
            if number != keep:
                for listening in slot:
                    listening.close()
        if keep is None:
            for listening in self.shared:
                listening.close()


@contextmanager
def listening_on(options: ListenOptions, slots: int | None = None) -> Iterator[Listening]:
    """Listen, until the block ends.

    Raises:
        ProgramError: an address is not available.
    """
    listening = Listening(slots)
    listening.open(options)
    try:
        yield listening
    finally:
        listening.close()


def _socket(family: int, kind: int, protocol: int) -> socket.socket:
    made = ListeningSocket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _unavailable(address: str, error: OSError | UnicodeError) -> ProgramError:
    """Return the error to raise; a `UnicodeError` is about a host that cannot be a name."""
    return ProgramError(f"cannot listen on {address}: {getattr(error, 'strerror', None) or error}")
