"""Policies are rehearsed here: SMTP dialogues as text (`script`), played against the real front end (`stage`).

The program is `smtp_frontend.rehearsal.__main__`. No mail leaves this machine, and nothing is counted anywhere: the
store is in memory, the clock is moved by hand, look-ups find what they are told to, and the next hop does what the
script says.
"""
