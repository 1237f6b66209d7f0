"""What a server's metrics say."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse

from trio_sse import Server
from trio_sse.metrics import encode_metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_in(text: str) -> Samples:
    """Return the values in the text format, by the names and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return one value; the name is without its prefix."""
    return samples[f"trio_sse_{name}", frozenset(labels.items())]


def metric(server: Server, name: str, **labels: str) -> float:
    """Return one value of a server's metrics at this moment; 0 if there is none with these labels."""
    samples = samples_in(encode_metrics(server.statistics())[0].decode())
    return samples.get((f"trio_sse_{name}", frozenset(labels.items())), 0.0)
