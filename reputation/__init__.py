"""reputon: reputation and rate limits for mail. The public library; see `reputation.engine`."""
