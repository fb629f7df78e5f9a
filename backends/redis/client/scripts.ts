import { createHash } from 'node:crypto'

/** Leases hold a token of this length, then a mark for each way in which a process waits to be woken. */
export const TOKEN_LENGTH = 36
/** Wake by a message on the channel that all waiters of a database share. */
export const BY_CHANNEL = '!'
/** Wake by a message on the sharded channel named like the lease. */
export const BY_SHARD = '*'

/** The first letter of a lease that was kept after a failure; then the ledger's time, or nothing. */
export const FAILED = '-'

/** The first element of the reply to `acquire` when the lease is granted; else it is the ms left, which are not negative. */
export const GRANTED = -1
/** The same if there is no lease, since an entry is there. */
export const PRESENT = -2
/** Before the `how` of `acquire`: only if the value is absent. */
export const IF_ABSENT = '?'

/** Bytes of a lease with its marks. A later waiter leaves none: it is woken by the marks of others, and reads the lease. */
const MAX_MARKED_LEASE = 4_096
/** The most bytes of a value that goes to all processes with the message that it is there. */
const MAX_SENT_VALUE = 4_096

/** Recent invalidations that the ledger keeps one by one. */
const RING = 1_024
/** Names in one message to near caches; if there are more, the near caches ask for them. */
const MAX_TOLD = 64

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
end
local function is_failed(held) return string.sub(held, 1, 1) == '${FAILED}' end`

/**
 * A clock is "epoch:n". A stamp is "hard" or "hard soft"; any other text in its place counts as absent. An absent stamp
 * may be put back as \`a\` only where the ring proves that nothing invalidated the name since. The result of \`standing\` is
 * 0 if the snapshot stands, 1 after a soft invalidation, 2 after a hard one or if bookkeeping was lost.
 *
 * The stamp of a name that transactions marked is "hard soft own-hard own-soft h<end>=<transaction> s<end>=…": its first two
 * numbers include the ends of the marks, which are times of the clock. So a reader need not know of marks, and a mark that
 * nothing ends is an ordinary stamp once the clock has passed its end. A sorted set has the transactions, behind their modes,
 * with the ends of their marks. While one lives, a creation begins at n - 1: every other stamp is as old as that, and the clock is not.
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
  local hard, soft, marks = string.match(text, '^(%d+) ?(%d*) ?(.*)$')
  return tonumber(hard), tonumber(soft) or 0, marks
end
local function keep_stamp(key, px)
  if px == '' then redis.call('PERSIST', key) return end
  local left = redis.call('PTTL', key)
  if left >= 0 and left < tonumber(px) then redis.call('PEXPIRE', key, px) end
end
local function move_stamp(key, n, mode, transaction, ends, px)
  local hard, soft, marked = read_stamp(key)
  local known = hard
  if not known and ends == '' then return redis.call('DEL', key) end
  hard, soft = hard or n, soft or 0
  local marks = {}
  if known and marked ~= '' then
    local own_hard, own_soft, list = string.match(marked, '^(%d+) (%d+) (.*)$')
    hard, soft = tonumber(own_hard), tonumber(own_soft)
    for which, stop, by in string.gmatch(list, '(%l)(%d+)=(%S+)') do
      stop = tonumber(stop)
      if by ~= transaction or which ~= string.sub(mode, 1, 1) then
        if stop > n then marks[#marks + 1] = { which, stop, by }
        elseif which == 'h' then hard = math.max(hard, stop)
        else soft = math.max(soft, stop) end
      end
    end
  end
  if mode == 'hard' then hard = math.max(hard, n) else soft = math.max(soft, n) end
  if ends ~= '' then marks[#marks + 1] = { string.sub(mode, 1, 1), tonumber(ends), transaction } end
  local own, list = digits(hard) .. ' ' .. digits(soft), ''
  for _, mark in ipairs(marks) do
    if mark[1] == 'h' then hard = math.max(hard, mark[2]) else soft = math.max(soft, mark[2]) end
    list = list .. ' ' .. mark[1] .. digits(mark[2]) .. '=' .. mark[3]
  end
  local text = digits(hard)
  if soft > 0 or #marks > 0 then text = text .. ' ' .. digits(soft) end
  if #marks > 0 then text = text .. ' ' .. own .. list end
  if not known then put(key, text, px) return 1 end
  redis.call('SET', key, text, 'KEEPTTL')
  if ends ~= '' then keep_stamp(key, px) end
  return 1
end
local function move_clock(key, epoch, n) redis.call('SET', key, epoch .. ':' .. digits(n), 'KEEPTTL') end
local function has_live(pending, now)
  local first
  repeat first = redis.call('ZPOPMIN', pending) until #first == 0 or tonumber(first[2]) > now
  if #first > 0 then redis.call('ZADD', pending, first[2], first[1]) end
  return #first > 0
end
local function start(clock, pending, fresh)
  local epoch, n = ensure_clock(clock, fresh)
  if redis.call('ZCARD', pending) == 0 then return epoch, n, n end
  local now = microseconds()
  if has_live(pending, now) then return epoch, n, n - 1 end
  n = math.max(n + 2, now)
  move_clock(clock, epoch, n)
  return epoch, n, n
end
local function begin(clock, pending, fresh, first, last, px)
  local epoch, _, a = start(clock, pending, fresh)
  for i = first, last do
    if read_stamp(KEYS[i]) then keep_stamp(KEYS[i], px) else put(KEYS[i], digits(a), px) end
  end
  return epoch .. ':' .. digits(a)
end
local function mark(pending, mode, transaction, ms, n)
  if transaction == '' then return '' end
  local now = microseconds()
  local ends = ms == '' and '' or digits(math.max(n, now) + ms * 1000)
  redis.call('ZADD', pending, ends == '' and '0' or ends, mode .. transaction)
  has_live(pending, now)
  return ends
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
  local n = math.max(before + 2, now)
  move_clock(clock, epoch, n)
  if not redis.call('ZSCORE', ring, '') then redis.call('ZADD', ring, digits(before), '') end
  for i = first, #names do redis.call('ZADD', ring, digits(n - 1), names[i]) end
  local excess = redis.call('ZCARD', ring) - ${RING + 1}
  if excess > 0 then
    local gone = redis.call('ZPOPMIN', ring, excess)
    redis.call('ZADD', ring, 'GT', gone[#gone], '')
  end
  return n, before, epoch
end
local function standing(clock, ring, first, last, epoch, px, offset)
  local now, n = read_clock(clock)
  if now ~= epoch then return 2 end
  local verdict = 0
  for i = first, last do
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
 * The journal of changed keys: a clock and a ring like those of a ledger. It exists while a near cache is registered, which
 * renews its lifetime; without it a change is recorded nowhere. A step is told as "epoch before n", and published as JSON with
 * the clock that moved and the names, unless they are many. A lost message is noticed by the next one, or by the next question.
 * A server that is out of memory cannot record a change, but can end the journal, so that no copy is trusted any more.
 */
const JOURNAL = `
local function told(channel, clock, names, first, n, before, epoch)
  local few = false
  if #names - first < ${MAX_TOLD} then
    few = {}
    for i = first, #names do few[#few + 1] = names[i] end
  end
  redis.pcall('PUBLISH', channel, cjson.encode({ clock, epoch, digits(before), digits(n), few }))
  return epoch .. ' ' .. digits(before) .. ' ' .. digits(n)
end
local function record(clock, ring, channel, keys)
  if not read_clock(clock) then return false end
  local done, n, before, epoch = pcall(advance, clock, ring, '', keys, 1)
  if done then return told(channel, clock, keys, 1, n, before, epoch) end
  redis.call('UNLINK', clock, ring)
  return false
end`

/**
 * KEYS lease, value, and with a question clock, pending transactions, stamps…; ARGV token, ms, how (0 free | 1 steal | <time: also failed by then; behind ${IF_ABSENT}: only if there is no value), mark,
 * channel, and with a question
 * epoch for a new clock, lifetime of stamps, how many of the stamps to create if absent (the first ones; the others are
 * read). Returns {ms left, holder or text of a failed lease} when denied, {${PRESENT}, value, clock, stamps read…} if there is a value, else
 * {${GRANTED}, value, clock, stamps read…}. A server that is out of memory
 * takes no mark: a waiter without one reads the lease now and then.
 */
export const acquire = script(`${LEASES}${LEDGER}
local function read_stamps(reply)
  for i = 5 + tonumber(ARGV[8]), #KEYS do reply[#reply + 1] = redis.call('GET', KEYS[i]) end
  return reply
end
if string.sub(ARGV[3], 1, 1) == '${IF_ABSENT}' then
  local value = redis.pcall('GET', KEYS[2])
  if type(value) == 'string' then
    if #KEYS == 2 then return { ${PRESENT}, value } end
    return read_stamps({ ${PRESENT}, value, redis.call('GET', KEYS[3]) })
  end
end
local held = redis.call('GET', KEYS[1])
if held and is_failed(held) and ARGV[3] ~= '1'
  and (tonumber(string.sub(held, 2)) or 0) > (tonumber(string.match(ARGV[3], '<(.+)')) or -1) then
  return { redis.call('PTTL', KEYS[1]), held }
end
if held and not is_failed(held) and ARGV[3] ~= '1' and not holds(held, ARGV[1]) then
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
  granted[3] = begin(KEYS[3], KEYS[4], ARGV[6], 5, 4 + tonumber(ARGV[8]), ARGV[7])
  read_stamps(granted)
end
return granted`)

/** KEYS lease; ARGV token, ms. */
export const renew = script(`${LEASES}
if not holds(redis.call('GET', KEYS[1]), ARGV[1]) then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

/** KEYS lease; ARGV token, channel, and to keep it after a failure ms, time of the ledger or ''. */
export const release = script(`${LEASES}
local held = redis.call('GET', KEYS[1])
if not holds(held, ARGV[1]) then return 0 end
if ARGV[3] then
  redis.call('SET', KEYS[1], '${FAILED}' .. ARGV[4], 'PX', ARGV[3])
else redis.call('DEL', KEYS[1]) end
wake(KEYS[1], held, ARGV[2])
return 1`)

/**
 * KEYS value, lease, if it has a snapshot clock, ring, stamps…, and if it is an invalidation clock and ring of the journal;
 * ARGV token or '', channel, value, ms or '', the latest time to begin or '', the channel of near caches if it is an
 * invalidation, epoch, lifetime of stamps, then \`a\` of each stamp. Returns 0 stored, 1 lost, 2 refused, the same with the step
 * of the journal, or the server's time as text if it is later than that.
 */
export const write = script(`${LEASES}${LEDGER}${JOURNAL}
local token = ARGV[1]
if ARGV[5] ~= '' then
  local now = microseconds()
  if now > tonumber(ARGV[5]) then return digits(now) end
end
local held = redis.call('GET', KEYS[2])
if token ~= '' and not holds(held, token) then return 1 end
local outcome = 0
local last = #KEYS
if ARGV[6] ~= '' then last = last - 2 end
if last > 2 and standing(KEYS[3], KEYS[4], 5, last, ARGV[7], ARGV[8], 4) ~= 0 then outcome = 2 end
if outcome == 0 then put(KEYS[1], ARGV[3], ARGV[4])
elseif token == '' then redis.call('UNLINK', KEYS[1]) end
if held then
  redis.call('DEL', KEYS[2])
  wake(KEYS[2], held, ARGV[2], outcome == 0 and last > 2 and #ARGV[3] <= ${MAX_SENT_VALUE} and ARGV[3])
end
if ARGV[6] == '' or (outcome ~= 0 and token ~= '') then return outcome end
return { outcome, record(KEYS[last + 1], KEYS[last + 2], ARGV[6], { KEYS[1] }) }`)

/**
 * KEYS value and lease of each key, and clock and ring of the journal where there is one; ARGV channel, the channel of near
 * caches or ''. Returns how many values there were, and if a near cache is registered the step of the journal too.
 */
export const remove = script(`${LEASES}${LEDGER}${JOURNAL}
local deleted, last = 0, #KEYS
if ARGV[2] ~= '' then last = last - 2 end
for i = 1, last, 2 do
  local held = redis.call('GET', KEYS[i + 1])
  deleted = deleted + redis.call('UNLINK', KEYS[i])
  if held then
    redis.call('UNLINK', KEYS[i + 1])
    wake(KEYS[i + 1], held, ARGV[1])
  end
end
if ARGV[2] == '' or not redis.call('GET', KEYS[last + 1]) then return deleted end
local keys = {}
for i = 1, last, 2 do keys[#keys + 1] = KEYS[i] end
return { deleted, record(KEYS[last + 1], KEYS[last + 2], ARGV[2], keys) }`)

/** KEYS clock, pending transactions, stamps…; ARGV epoch for a new clock, lifetime of stamps. Returns the time, as a clock. */
export const now = script(`${LEDGER}
return begin(KEYS[1], KEYS[2], ARGV[1], 3, #KEYS, ARGV[2])`)

/** KEYS clock, ring, stamps…; ARGV epoch, lifetime of stamps, then \`a\` of each stamp. */
export const validate = script(`${LEDGER}
return standing(KEYS[1], KEYS[2], 3, #KEYS, ARGV[1], ARGV[2], 0)`)

/**
 * KEYS clock, ring, clock of the journal, pending transactions, stamps…; ARGV epoch for a new clock, mode, the channel of near
 * caches, transaction or '', ms for which it marks the names or '' to end its marks, lifetime of stamps. An absent stamp
 * stays absent unless it is marked: it is a miss already. Returns the step, if a near cache is registered.
 */
export const invalidate = script(`${LEDGER}${JOURNAL}
local n, before, epoch = advance(KEYS[1], KEYS[2], ARGV[1], KEYS, 5)
local ends = mark(KEYS[4], ARGV[2], ARGV[4], ARGV[5], n)
for i = 5, #KEYS do move_stamp(KEYS[i], n - 1, ARGV[2], ARGV[4], ends, ARGV[6]) end
if not redis.call('GET', KEYS[3]) then return false end
return told(ARGV[3], KEYS[1], KEYS, 5, n, before, epoch)`)

/**
 * KEYS clock and ring of the journal, then those of ledgers; ARGV epoch for a new clock, lifetime of the journal, then for each
 * clock the time since which changes are asked for, or ''. Registers a near cache. Returns for each clock {clock, floor, name,
 * time, …}. A journal that begins has a new epoch: nothing was recorded before.
 */
export const pull = script(`${LEDGER}
if not read_clock(KEYS[1]) then redis.call('UNLINK', KEYS[1], KEYS[2]) end
local reply = {}
for i = 1, #KEYS, 2 do
  local clock, ring, since = KEYS[i], KEYS[i + 1], tonumber(ARGV[2 + (i + 1) / 2])
  local epoch, n = ensure_clock(clock, ARGV[1])
  local floor = redis.call('ZSCORE', ring, '')
  local changed = { epoch .. ':' .. digits(n), floor or digits(n) }
  if since and since < n and floor and tonumber(floor) <= since then
    for _, text in ipairs(redis.call('ZRANGEBYSCORE', ring, '(' .. digits(since), '+inf', 'WITHSCORES')) do
      changed[#changed + 1] = text
    end
  end
  if i == 1 then
    if not floor then redis.call('ZADD', ring, digits(n), '') end
    redis.call('PEXPIRE', clock, ARGV[2])
    redis.call('PEXPIRE', ring, ARGV[2])
  end
  reply[#reply + 1] = changed
end
return reply`)

/** KEYS clock, ring. The pending transactions stay: the names that they marked are pending in the next epoch, too. */
export const dropClock = script(`return redis.call('UNLINK', KEYS[1], KEYS[2])`)

/*
 * Redis Cluster: clock and stamps lie on different nodes, so that one step above becomes several. The clock always moves
 * before the stamps; a stamp that is being created is a placeholder, which counts as absent.
 */

/**
 * KEYS clock, ring, pending transactions; ARGV epoch for a new clock, then stamp and \`a\` in turns. Returns the clock, the
 * time at which a creation begins now, and each stamp's origin.
 */
export const readClock = script(`${LEDGER}
local epoch, n, a = start(KEYS[1], KEYS[3], ARGV[1])
local reply = { epoch .. ':' .. digits(n), digits(a) }
for i = 2, #ARGV, 2 do
  reply[#reply + 1] = digits(origin(KEYS[2], ARGV[i], tonumber(ARGV[i + 1]), n))
end
return reply`)

/**
 * KEYS clock, ring, pending transactions, marker of near caches; ARGV epoch for a new clock, mode, transaction and ms as for an
 * invalidation, then the stamps. Returns the new time of the stamps, the end of the marks or '', and the marker if it is there.
 */
export const advanceClock = script(`${LEDGER}
local n = advance(KEYS[1], KEYS[2], ARGV[1], ARGV, 5)
return { digits(n - 1), mark(KEYS[3], ARGV[2], ARGV[3], ARGV[4], n), redis.call('GET', KEYS[4]) }`)

/**
 * KEYS clock, ring, marker; ARGV epoch for a new clock, the channel of near caches, then the names of changes that were made on
 * other nodes. Returns the step, or nothing if no near cache is registered. A server that is out of memory ends the
 * registration instead, so that no copy is trusted any more.
 */
export const recordChanges = script(`${LEDGER}${JOURNAL}
if not redis.call('GET', KEYS[3]) then return false end
local done, n, before, epoch = pcall(advance, KEYS[1], KEYS[2], ARGV[1], ARGV, 3)
if done then return told(ARGV[2], KEYS[1], ARGV, 3, n, before, epoch) end
redis.call('UNLINK', KEYS[3])
return false`)

/**
 * KEYS clock, ring, marker; ARGV epoch for a new clock, text for a new marker, lifetime of the marker, that of the journal or '',
 * the time since which changes are asked for or ''. Registers a near cache. Returns the id of the server, the marker, and as
 * \`pull\` does {clock, floor, name, time, …}.
 */
export const pullOne = script(`${LEDGER}
local marker = redis.call('GET', KEYS[3])
if marker then redis.call('PEXPIRE', KEYS[3], ARGV[3])
else
  marker = ARGV[2]
  redis.call('SET', KEYS[3], marker, 'PX', ARGV[3])
end
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local epoch, n = ensure_clock(KEYS[1], ARGV[1])
local floor = redis.call('ZSCORE', KEYS[2], '')
local changed = { epoch .. ':' .. digits(n), floor or digits(n) }
local since = tonumber(ARGV[5])
if since and since < n and floor and tonumber(floor) <= since then
  for _, text in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. digits(since), '+inf', 'WITHSCORES')) do
    changed[#changed + 1] = text
  end
end
if ARGV[4] ~= '' then
  if not floor then redis.call('ZADD', KEYS[2], digits(n), '') end
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return { server, marker, changed }`)

/**
 * KEYS stamp; ARGV time, mode, transaction, end of its mark or '', lifetime of stamps. An overtaken invalidation must not set a
 * stamp back; a placeholder must not survive one.
 */
export const moveStamp = script(`${LEDGER}
return move_stamp(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5])`)

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
