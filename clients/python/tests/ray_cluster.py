"""A Ray cluster on this machine, for tests."""

from __future__ import annotations

from typing import Any


def start(**options: Any) -> None:
    """Tries again where a busy machine needs more than the 30 seconds that Ray waits for its own processes."""
    import ray

    for attempt in range(5):
        try:
            ray.init(include_dashboard=False, logging_level="ERROR", **options)
            return
        except Exception as error:
            ray.shutdown()
            if attempt == 4 or "timed out during startup" not in str(error):
                raise
