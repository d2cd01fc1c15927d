-- What the library is called by. No loop: there is no `ipairs` here.

redis.register_function('reputon_@VERSION@_decide', decide)
redis.register_function('reputon_@VERSION@_refund', refund)
redis.register_function('reputon_@VERSION@_renew', renew)
redis.register_function('reputon_@VERSION@_saw', saw)
-- PFCOUNT of several keys counts as a write.
redis.register_function('reputon_@VERSION@_sketch', sketch)
redis.register_function('reputon_@VERSION@_offer', offer)
redis.register_function('reputon_@VERSION@_beat', beat)
redis.register_function('reputon_@VERSION@_enter', enter)
redis.register_function('reputon_@VERSION@_strike', strike)
redis.register_function('reputon_@VERSION@_remark', remark)
redis.register_function('reputon_@VERSION@_publish', publish)
redis.register_function('reputon_@VERSION@_entries', entries)
redis.register_function { function_name = 'reputon_@VERSION@_series', callback = series, flags = { 'no-writes' } }
redis.register_function { function_name = 'reputon_@VERSION@_counts', callback = counts, flags = { 'no-writes' } }
redis.register_function { function_name = 'reputon_@VERSION@_board', callback = board, flags = { 'no-writes' } }
redis.register_function { function_name = 'reputon_@VERSION@_now', callback = now, flags = { 'no-writes' } }
redis.register_function { function_name = 'reputon_@VERSION@_page', callback = page, flags = { 'no-writes' } }
redis.register_function { function_name = 'reputon_@VERSION@_audit', callback = audit, flags = { 'no-writes' } }
