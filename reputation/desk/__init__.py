"""The abuse desk: all that operators ask and do, in one contract.

    reputon top ...          console page        GET /v1/top
        |                         |                  |
        +---------- contract.Desk -------------------+
                    local.EngineDesk      over an engine of this process
                    remote.RemoteDesk     over the API of another one

`documents` says what goes in and comes out, as plain values: the same names in JSON, in tables, and in the console.
"""
