"""Old mail logs, played through a policy: whom would it have hit, and what limits would have hit nobody?

    files -> lines -> records -> steps -> a verdict for each (`running`), or the peaks of everybody (`tuning`)

    reading    opens files, tells lines apart, counts what it cannot read
    postfix    lines of Postfix into records; `exim` and `ours` do so for theirs
    flow       records, which tell of a message in pieces, into steps: events in order of time, and what came of them;
               `transactions` does so with our own, `steps` keeps the order
    running    the steps through the real policy, over counters in memory (`judging`)
    figures    what each rule did to whom
    tuning     the peaks of sliding windows, their quantiles, and limits made of them

Nothing here asks a network or writes a file. Memory is bounded: what is open is aged out, and of more values than
`judging.MAX_COUNTERS` and `tuning.MAX_ENTITIES` allow the ones that were not heard of for the longest time are
forgotten, which the notes of the report say. A replay takes a gigabyte at most, and so does a tuning with the usual
keys.

Bugs: a log in which very many different senders write within the longest window of a rule needs more than that, and
some of its hits are not found. In a replay nobody comes back. Who is refused for now would have tried again; here each
attempt of the log counts once, as it was.
"""
