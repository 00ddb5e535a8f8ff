"""What the host is doing: processor, memory, network and load, as rates between two samples."""

from dataclasses import dataclass
from typing import Protocol

import psutil


@dataclass(frozen=True, slots=True)
class HostSample:
    """One look at the host. Percentages are 0 to 100; rates cover the time since the sample before."""

    cpu_pct: float
    core_pcts: tuple[float, ...]
    memory_total_bytes: int
    memory_used_bytes: int
    received_bytes_per_s: float
    sent_bytes_per_s: float
    load: tuple[float, float, float]

    @property
    def memory_pct(self) -> float:
        return 100.0 * self.memory_used_bytes / self.memory_total_bytes if self.memory_total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """Bytes that one network interface has carried since it came up."""

    received_bytes: int
    sent_bytes: int


class HostReader(Protocol):
    """Where the numbers come from. No method may block."""

    def core_pcts(self) -> list[float]:
        """How busy each core was since the call before, 0 to 100. The first call has no meaning."""

    def memory_bytes(self) -> tuple[int, int]:
        """Total, and what is not available to a new process."""

    def interface_counters(self) -> dict[str, InterfaceCounters]:
        """By interface, without loopback: the demo's own traffic would drown the rest."""

    def load(self) -> tuple[float, float, float]:
        """Runnable tasks, averaged over 1, 5 and 15 minutes."""


class PsutilReader:
    """The host this process runs on."""

    def core_pcts(self) -> list[float]:
        return psutil.cpu_percent(interval=None, percpu=True)

    def memory_bytes(self) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.total, memory.total - memory.available

    def interface_counters(self) -> dict[str, InterfaceCounters]:
        # nowrap=False: psutil's own guess at wrapped counters would turn a reset interface into a burst.
        by_interface = psutil.net_io_counters(pernic=True, nowrap=False)
        return {
            name: InterfaceCounters(counters.bytes_recv, counters.bytes_sent)
            for name, counters in by_interface.items()
            if not (name == "lo" or name.startswith(("lo0", "Loopback")))
        }

    def load(self) -> tuple[float, float, float]:
        return psutil.getloadavg()


class HostSampler:
    """Turns the reader's counters into rates. `now` is monotonic seconds, here and in `sample`."""

    __slots__ = ("_counters", "_reader", "_sampled_at")

    def __init__(self, now: float, reader: HostReader | None = None) -> None:
        self._reader: HostReader = reader if reader is not None else PsutilReader()
        self._reader.core_pcts()
        self._counters = self._reader.interface_counters()
        self._sampled_at = now

    def sample(self, now: float) -> HostSample:
        cores = tuple(min(100.0, max(0.0, pct)) for pct in self._reader.core_pcts())
        total_bytes, used_bytes = self._reader.memory_bytes()
        received_bytes_per_s, sent_bytes_per_s = self._network_rates(now)
        return HostSample(
            cpu_pct=sum(cores) / len(cores) if cores else 0.0,
            core_pcts=cores,
            memory_total_bytes=total_bytes,
            memory_used_bytes=used_bytes,
            received_bytes_per_s=received_bytes_per_s,
            sent_bytes_per_s=sent_bytes_per_s,
            load=self._reader.load(),
        )

    def _network_rates(self, now: float) -> tuple[float, float]:
        before, counters = self._counters, self._reader.interface_counters()
        elapsed_s = now - self._sampled_at
        self._counters, self._sampled_at = counters, now
        if elapsed_s <= 0:
            return 0.0, 0.0
        received_bytes = sent_bytes = 0
        # Interface by interface, so that one that was reset, or has just come up with old counters, adds
        # nothing and hides nothing of the others.
        for name in counters.keys() & before.keys():
            received_bytes += max(0, counters[name].received_bytes - before[name].received_bytes)
            sent_bytes += max(0, counters[name].sent_bytes - before[name].sent_bytes)
        return received_bytes / elapsed_s, sent_bytes / elapsed_s
