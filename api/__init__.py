"""REST, the reputation query protocol and the console: what people and programs ask over HTTP.

`__main__` is the program, `server` serves, `door` is what every request passes, `gate` says who may do what, `app` puts
the routes together: `checks` (verdicts and outcomes), `rest` (all else under ``/v1``), `repute` (RFC 7070 to 7073),
`console` (pages), `health`.

Everything is asked of the abuse desk (`reputation.desk`) or the engine: nothing is decided here.
"""
