"""What reputon costs, measured on real servers that each benchmark starts and ends itself.

    python -m benchmarks.store           server CPU per entity check
    python -m benchmarks.judge           decisions per second and client core, latency, round trips
    python -m benchmarks.profile         where the time of one decision goes in this process
    python -m benchmarks.memory          bytes per entity
    python -m benchmarks.accuracy        wrong decisions near a limit, against an exact log
    python -m benchmarks.peers           the same stream through other limiters
    python -m benchmarks.growth          cost with more entities and more servers
    python -m benchmarks.reputation      how well the score tells good mail from bad
    python -m benchmarks.policy          what the default policy costs an event
    python -m benchmarks.replay          old logs: lines and events a second
    python -m benchmarks.lookups         facts from outside, remembered and new
    python -m benchmarks.smtp            messages a second through the front end, against a bare relay
    python -m benchmarks.policy_service  questions of mail servers a second
    python -m benchmarks.api             checks a second through the API, and how long a page takes
    python -m benchmarks.sessions        memory of a session, and whether anything leaks

Without options a table; ``--json`` prints one JSON object instead, ``--quick`` is the small size that the tests run.
``make bench`` runs them all at full size. A target that is missed is printed as missed, and is no failure of the run.

They start their servers by ``tests.servers`` and ``tests.clusters``, so they run in a checkout, from its top.

How to read the figures: `benchmarks.report` says what the machine did meanwhile. CPU time of the client is that of
this process; of a server it is what the server itself reports. Rounds of what is compared take turns, and a figure is
the median of its rounds, so that a machine that is slow for a minute is slow for everybody.
"""
