"""What happens inside Redis, at once and by its clock."""

WINDOW = """
-- The sliding window of `_window`, shared. Times are whole microseconds of the server's clock.
-- KEYS: the last starts (a list), the time before which nobody starts.
-- ARGV: limit, per, within (-1: however long; -2: book nothing), park (-1: no), booked (0: nothing yet).
-- Answers: whether it was granted, the wait, the start, whether a park dictated the wait.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local limit, per, within = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local park, booked = tonumber(ARGV[4]), tonumber(ARGV[5])
local parked = tonumber(redis.call('GET', KEYS[2]) or '0')
if park >= 0 then
    parked = math.max(parked, now + park)
    redis.call('SET', KEYS[2], string.format('%.0f', parked), 'PX', math.ceil((parked - now) / 1000) + 1)
end
if within == -2 then return {0, 0, 0, 0} end
if booked > 0 and parked <= booked then return {1, 0, booked, 0} end
local start, by_park = now, 0
if parked > start then start, by_park = parked, 1 end
if redis.call('LLEN', KEYS[1]) >= limit then
    local free = tonumber(redis.call('LINDEX', KEYS[1], -limit)) + per
    if free > start then start, by_park = free, 0 end
end
local wait = start - now
if within >= 0 and wait > within then return {0, wait, start, by_park} end
redis.call('RPUSH', KEYS[1], string.format('%.0f', start))
redis.call('LTRIM', KEYS[1], -limit, -1)
redis.call('PEXPIRE', KEYS[1], math.ceil((wait + per) / 1000) + 1000)
return {1, wait, start, by_park}
"""

AGREEMENT = """
-- What the processes agree on about a few targets. Times are whole milliseconds of the server's clock.
-- KEYS: for each target its state (a hash), its nodes, their votes, the leases for probes (sorted by expiry).
-- ARGV: node, alive, quorum, minimum votes, probes, lease; then for each target what the node has to say:
--   vote (0: none), whether it wants a lease, the opening whose probe ended (0: none), whether it was good.
-- Answers for each target: the opening (0: not open), the wait until it is probed, what the lease has left.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local node, alive, quorum, minimum = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local probes, lease = tonumber(ARGV[5]), tonumber(ARGV[6])
local grace = 600000
local answers = {}

for place = 0, #KEYS / 4 - 1 do
    local state, nodes = KEYS[4 * place + 1], KEYS[4 * place + 2]
    local votes, leases = KEYS[4 * place + 3], KEYS[4 * place + 4]
    local said = 4 * place + 6
    local vote, wants = tonumber(ARGV[said + 1]), tonumber(ARGV[said + 2])
    local ended, good = tonumber(ARGV[said + 3]), tonumber(ARGV[said + 4])
    local stored = redis.call('HMGET', state, 'opening', 'till', 'span', 'good')
    local opening, till = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
    local span, goods = tonumber(stored[3] or '0'), tonumber(stored[4] or '0')
    local function open()
        opening, till, goods = math.max(now, opening + 1), now + span, 0
        redis.call('DEL', leases)
    end

    redis.call('ZADD', nodes, now + alive, node)
    redis.call('ZREMRANGEBYSCORE', nodes, '-inf', now)
    redis.call('PEXPIRE', nodes, grace + alive)
    redis.call('ZREMRANGEBYSCORE', votes, '-inf', now)
    till = math.min(till, now + span)  -- the server's clock may have been put back

    if vote > 0 then
        redis.call('ZADD', votes, now + vote, node)
        span = math.max(span, vote)
    end
    if opening > 0 and ended == opening and redis.call('ZREM', leases, node) == 1 then
        goods = goods + 1
        if good == 0 then
            open()
        elseif goods >= probes then
            opening, span = 0, 0
            redis.call('DEL', state, votes, leases)
        end
    end
    if opening == 0 then
        span = 0
        for _, voter in ipairs(redis.call('ZRANGE', votes, 0, -1)) do
            if redis.call('ZSCORE', nodes, voter) then
                span = math.max(span, redis.call('ZSCORE', votes, voter) - now)
            else
                redis.call('ZREM', votes, voter)
            end
        end
        redis.call('PEXPIRE', votes, grace + span)
        local needed = math.max(minimum, math.ceil(quorum * redis.call('ZCARD', nodes) - 1e-9))
        if span > 0 and redis.call('ZCARD', votes) >= needed then open() end
    end

    local left = 0
    if opening > 0 then
        if wants == 1 and till <= now then
            left = (tonumber(redis.call('ZSCORE', leases, node) or '0')) - now
            if left <= 0 and goods + redis.call('ZCOUNT', leases, '(' .. now, '+inf') < probes then
                left = lease
                redis.call('ZADD', leases, now + lease, node)
                redis.call('PEXPIRE', leases, grace + lease)
            end
        end
        redis.call('HSET', state, 'opening', opening, 'till', till, 'span', span, 'good', goods)
        redis.call('PEXPIRE', state, grace + math.max(0, till - now))
    end
    answers[place + 1] = {opening, math.max(0, till - now), math.max(0, left)}
end
return answers
"""
