"""`concurrent`: a session counts from the stage of the rule until it ends, whatever becomes of its transactions."""

import pytest

from smtp_frontend.rehearsal.expectations import until
from smtp_frontend.rehearsal.front_end import front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop

ONE_SESSION = """
[[rule]]
name = "one-session"
stage = "{stage}"
key = ["sender"]
count = "concurrent"
limits = ["1"]
action = "tempfail"
"""


@pytest.mark.parametrize("stage", ["mail", "rcpt"])
@pytest.mark.parametrize("ending", ["RSET", "EHLO again.example.com", "DATA"])
async def test_a_session_counts_until_it_ends(hop: ScriptedHop, stage: str, ending: str) -> None:
    async with front_end(ONE_SESSION.format(stage=stage), next_hop=hop.url) as mx:
        async with mx.client() as first, mx.client() as second:
            await first.begin("bob@example.net")
            assert (await first.message() if ending == "DATA" else await first.ask(ending)).code == 250
            refused = (await second.begin("bob@example.net"))[["mail", "rcpt"].index(stage)]
            assert refused.code // 100 == 4
            await second.ask("RSET")
            assert [reply.code for reply in await first.transaction("bob@example.net")] == [250, 250]
            assert (await first.ask("QUIT")).code == 221
            await until(lambda: len(mx.engine.upkeep.leases._held) == 0, "the first is over")
            assert [reply.code for reply in await second.transaction("bob@example.net")] == [250, 250]
        assert not mx.log.traces, mx.log.traces
