"""The policy service as a process: no benchmark, but what `benchmarks.policy_service` asks.

    python -m benchmarks.policy_process STORE-URL

prints the port that it listens on, logs to standard error as the program does, and ends when its standard input does.

It waits five seconds for the store: a machine that stands still is to be seen in the figures, not in fallbacks.
"""

import asyncio
import gc
import logging
import socket
import sys
import tomllib

from reputation.assemble import open_engine
from reputation.config import Settings
from smtp_frontend.policy_service import PolicyService
from smtp_frontend.sleepers import Sleepers

POLICY = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["1000000/1h"]
action = "tempfail"

[[rule]]
name = "client-rate"
stage = "connect"
key = ["ip"]
count = "connections"
limits = ["1000000/1h"]
action = "tempfail"

[[rule]]
name = "recipient-rate"
stage = "rcpt"
key = ["recipient"]
count = "messages"
limits = ["1000000/1h"]
action = "tempfail"
"""


async def serve(url: str) -> None:
    """The service, until standard input ends; its engine is that of the program."""
    settings = Settings.model_validate(tomllib.loads(POLICY) | {"store": {"url": url, "deadline_seconds": 5.0}})
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    async with open_engine(settings) as engine:
        sleepers = Sleepers(max_sleepers=0, metrics=engine.metrics)
        gc.collect()
        gc.freeze()
        service = PolicyService(engine, settings.policy_service, sleepers)
        await service.listen([listening])
        print(listening.getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await service.close(1)


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    words = "{asctime}.{msecs:03.0f} {levelname} {name} {message}"
    handler.setFormatter(logging.Formatter(words, "%Y-%m-%dT%H:%M:%S", style="{"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    asyncio.run(serve(sys.argv[1]))
