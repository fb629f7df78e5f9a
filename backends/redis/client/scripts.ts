import { createHash } from 'node:crypto'

/** Leases hold a token of this length, then a mark for each way in which a process waits to be woken. */
export const TOKEN_LENGTH = 36
/** Wake by a message on the channel that all waiters of a database share. */
export const BY_CHANNEL = '!'
/** Wake by a message on the sharded channel named like the lease. */
export const BY_SHARD = '*'

/** The first element of the reply to `acquire` when the lease is granted; else it is the ms left, which are not negative. */
export const GRANTED = -1

/** Bytes of a lease with its marks. A later waiter leaves none: it is woken by the marks of others, and reads the lease. */
const MAX_MARKED_LEASE = 4_096
/** The most bytes of a value that goes to all processes with the message that it is there. */
const MAX_SENT_VALUE = 4_096

/** Recent invalidations that the ledger keeps one by one. */
const RING = 1_024

export interface Script {
  readonly lua: string
  readonly sha: string
}

function script(lua: string): Script {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}

/**
 * Publishing may be forbidden by an ACL: a lost wake-up costs a waiter time, a failed write costs more. A value is sent
 * along only if it was stored and found current in this very step.
 */
const LEASES = `
local function wake(lease, held, channel, value)
  if string.find(held, '${BY_CHANNEL}', ${TOKEN_LENGTH + 1}, true) then
    redis.pcall('PUBLISH', channel, #held .. ' ' .. #lease .. ' ' .. held .. lease .. (value or ''))
  end
  if string.find(held, '${BY_SHARD}', ${TOKEN_LENGTH + 1}, true) then redis.pcall('SPUBLISH', lease, lease) end
end
local function holds(held, token)
  return held and string.sub(held, 1, ${TOKEN_LENGTH}) == token
end`

/**
 * A clock is "epoch:n". A stamp is "hard" or "hard soft"; any other text in its place counts as absent. An absent stamp
 * may be put back as \`a\` only where the ring proves that nothing invalidated the name since. The result of \`standing\` is
 * 0 if the snapshot stands, 1 after a soft invalidation, 2 after a hard one or if bookkeeping was lost.
 */
const LEDGER = `
local function digits(n) return string.format('%.0f', n) end
local function put(key, value, px)
  if px == '' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', px) end
end
local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function read_clock(key)
  local clock = redis.call('GET', key)
  if not clock then return nil end
  local epoch, n = string.match(clock, '^(.+):(%d+)$')
  return epoch, tonumber(n)
end
local function ensure_clock(key, fresh)
  local epoch, n = read_clock(key)
  if epoch then return epoch, n end
  n = microseconds()
  redis.call('SET', key, fresh .. ':' .. digits(n))
  return fresh, n
end
local function read_stamp(key)
  local text = redis.call('GET', key)
  if not text then return nil end
  local hard, soft = string.match(text, '^(%d+) ?(%d*)$')
  return tonumber(hard), tonumber(soft) or 0
end
local function keep_stamp(key, px)
  if px == '' then redis.call('PERSIST', key) return end
  local left = redis.call('PTTL', key)
  if left >= 0 and left < tonumber(px) then redis.call('PEXPIRE', key, px) end
end
local function move_stamp(key, n, mode)
  local hard, soft = read_stamp(key)
  if not hard then return redis.call('DEL', key) end
  if mode == 'hard' then hard = math.max(hard, n) else soft = math.max(soft, n) end
  local text = digits(hard)
  if soft > 0 then text = text .. ' ' .. digits(soft) end
  redis.call('SET', key, text, 'KEEPTTL')
  return 1
end
local function begin(clock, fresh, first, last, px)
  local epoch, n = ensure_clock(clock, fresh)
  for i = first, last do
    if read_stamp(KEYS[i]) then keep_stamp(KEYS[i], px) else put(KEYS[i], digits(n), px) end
  end
  return epoch .. ':' .. digits(n)
end
local function origin(ring, member, a, n)
  if a >= n then return n end
  local floor = tonumber(redis.call('ZSCORE', ring, ''))
  local last = tonumber(redis.call('ZSCORE', ring, member))
  if floor and floor <= a and (not last or last <= a) then return a end
  return n
end
local function advance(clock, ring, fresh, names, first)
  local epoch, before = read_clock(clock)
  local now = microseconds()
  if not epoch then epoch, before = fresh, now end
  local n = math.max(before + 1, now)
  redis.call('SET', clock, epoch .. ':' .. digits(n))
  if not redis.call('ZSCORE', ring, '') then redis.call('ZADD', ring, digits(before), '') end
  for i = first, #names do redis.call('ZADD', ring, digits(n), names[i]) end
  local excess = redis.call('ZCARD', ring) - ${RING + 1}
  if excess > 0 then
    local gone = redis.call('ZPOPMIN', ring, excess)
    redis.call('ZADD', ring, 'GT', gone[#gone], '')
  end
  return n
end
local function standing(clock, ring, first, epoch, px, offset)
  local now, n = read_clock(clock)
  if now ~= epoch then return 2 end
  local verdict = 0
  for i = first, #KEYS do
    local a = tonumber(ARGV[i + offset])
    if a > n then return 2 end
    local hard, soft = read_stamp(KEYS[i])
    if hard then keep_stamp(KEYS[i], px)
    else
      hard, soft = origin(ring, KEYS[i], a, n), 0
      put(KEYS[i], digits(hard), px)
    end
    if hard > a then return 2 end
    if soft > a then verdict = 1 end
  end
  return verdict
end`

/**
 * KEYS lease, value, and with a question clock, stamps…; ARGV token, ms, steal (0|1), mark, channel, and with a question
 * epoch for a new clock, lifetime of stamps, how many of the stamps to create if absent (the first ones; the others are
 * read). Returns {ms left, holder} when denied, else {${GRANTED}, value, clock, stamps read…}. A server that is out of memory
 * takes no mark: a waiter without one reads the lease now and then.
 */
export const acquire = script(`${LEASES}${LEDGER}
local held = redis.call('GET', KEYS[1])
if held and ARGV[3] == '0' and not holds(held, ARGV[1]) then
  if ARGV[4] ~= '' and #held < ${MAX_MARKED_LEASE} and not string.find(held, ARGV[4], ${TOKEN_LENGTH + 1}, true) then
    redis.pcall('APPEND', KEYS[1], ARGV[4])
  end
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    left = tonumber(ARGV[2])
  end
  return { left, string.sub(held, 1, ${TOKEN_LENGTH}) }
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if held then wake(KEYS[1], held, ARGV[5]) end
local value = redis.pcall('GET', KEYS[2])
local granted = { ${GRANTED}, type(value) == 'string' and value }
if #KEYS > 2 then
  local created = 3 + tonumber(ARGV[8])
  granted[3] = begin(KEYS[3], ARGV[6], 4, created, ARGV[7])
  for i = created + 1, #KEYS do granted[#granted + 1] = redis.call('GET', KEYS[i]) end
end
return granted`)

/** KEYS lease; ARGV token, ms. */
export const renew = script(`${LEASES}
if not holds(redis.call('GET', KEYS[1]), ARGV[1]) then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

/** KEYS lease; ARGV token, channel. */
export const release = script(`${LEASES}
local held = redis.call('GET', KEYS[1])
if not holds(held, ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
wake(KEYS[1], held, ARGV[2])
return 1`)

/**
 * KEYS value, lease, and if it has a snapshot clock, ring, stamps…; ARGV token or '', channel, value, ms or '', the latest
 * time to begin or '', epoch, lifetime of stamps, then \`a\` of each stamp. Returns 0 stored, 1 lost, 2 refused, or the
 * server's time as text if it is later than that.
 */
export const write = script(`${LEASES}${LEDGER}
local token = ARGV[1]
if ARGV[5] ~= '' then
  local now = microseconds()
  if now > tonumber(ARGV[5]) then return digits(now) end
end
local held = redis.call('GET', KEYS[2])
if token ~= '' and not holds(held, token) then return 1 end
local outcome = 0
if #KEYS > 2 and standing(KEYS[3], KEYS[4], 5, ARGV[6], ARGV[7], 3) ~= 0 then outcome = 2 end
if outcome == 0 then put(KEYS[1], ARGV[3], ARGV[4])
elseif token == '' then redis.call('UNLINK', KEYS[1]) end
if held then
  redis.call('DEL', KEYS[2])
  wake(KEYS[2], held, ARGV[2], outcome == 0 and #KEYS > 2 and #ARGV[3] <= ${MAX_SENT_VALUE} and ARGV[3])
end
return outcome`)

/** KEYS value and lease of each key; ARGV channel. Returns how many values there were. */
export const remove = script(`${LEASES}
local deleted = 0
for i = 1, #KEYS, 2 do
  local held = redis.call('GET', KEYS[i + 1])
  deleted = deleted + redis.call('UNLINK', KEYS[i])
  if held then
    redis.call('UNLINK', KEYS[i + 1])
    wake(KEYS[i + 1], held, ARGV[1])
  end
end
return deleted`)

/** KEYS clock, stamps…; ARGV epoch for a new clock, lifetime of stamps. Returns the clock. */
export const now = script(`${LEDGER}
return begin(KEYS[1], ARGV[1], 2, #KEYS, ARGV[2])`)

/** KEYS clock, ring, stamps…; ARGV epoch, lifetime of stamps, then \`a\` of each stamp. */
export const validate = script(`${LEDGER}
return standing(KEYS[1], KEYS[2], 3, ARGV[1], ARGV[2], 0)`)

/** KEYS clock, ring, stamps…; ARGV epoch for a new clock, mode. An absent stamp stays absent: it is a miss already. */
export const invalidate = script(`${LEDGER}
local n = advance(KEYS[1], KEYS[2], ARGV[1], KEYS, 3)
for i = 3, #KEYS do move_stamp(KEYS[i], n, ARGV[2]) end
return digits(n)`)

/** KEYS clock, ring. */
export const dropClock = script(`return redis.call('UNLINK', KEYS[1], KEYS[2])`)

/*
 * Redis Cluster: clock and stamps lie on different nodes, so that one step above becomes several. The clock always moves
 * before the stamps; a stamp that is being created is a placeholder, which counts as absent.
 */

/** KEYS clock, ring; ARGV epoch for a new clock, then stamp and \`a\` in turns. Returns the clock and each stamp's origin. */
export const readClock = script(`${LEDGER}
local epoch, n = ensure_clock(KEYS[1], ARGV[1])
local reply = { epoch .. ':' .. digits(n) }
for i = 2, #ARGV, 2 do
  reply[#reply + 1] = digits(origin(KEYS[2], ARGV[i], tonumber(ARGV[i + 1]), n))
end
return reply`)

/** KEYS clock, ring; ARGV epoch for a new clock, then the stamps. Returns the new time. */
export const advanceClock = script(`${LEDGER}
return digits(advance(KEYS[1], KEYS[2], ARGV[1], ARGV, 2))`)

/** KEYS stamp; ARGV time, mode. An overtaken invalidation must not set a stamp back; a placeholder must not survive one. */
export const moveStamp = script(`${LEDGER}
return move_stamp(KEYS[1], tonumber(ARGV[1]), ARGV[2])`)

/** KEYS stamp; ARGV lifetime, placeholder. Returns the stamp and keeps it alive. If there is none, puts the placeholder. */
export const claimStamp = script(`${LEDGER}
local text = redis.call('GET', KEYS[1])
if text then
  if read_stamp(KEYS[1]) then keep_stamp(KEYS[1], ARGV[1]) end
  return text
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', 10000)
return false`)

/** KEYS stamp; ARGV placeholder, time, lifetime. Only the process whose placeholder still stands may complete the stamp. */
export const completeStamp = script(`${LEDGER}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
put(KEYS[1], digits(tonumber(ARGV[2])), ARGV[3])
return 1`)
