"""Content filters: rspamd, SpamAssassin's spamd, ClamAV's clamd, and what they say about a message together."""
