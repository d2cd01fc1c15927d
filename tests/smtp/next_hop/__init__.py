"""The next hops: one contract for all kinds, then what is special about each."""
