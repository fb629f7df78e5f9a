/** A script of the messages of a bus. It runs by its text. */
export interface Announcement {
  readonly lua: string
}

/** Messages of a channel that are kept. */
const KEPT = 1_024
/** Bytes of a message that is kept. After a larger one the earlier ones are gone, too. */
const MAX_KEPT = 16_384

/**
 * A record is a clock "epoch:n", in microseconds of the server, and a sorted set of the latest messages by their times. On a
 * Cluster its keys are declared; elsewhere they are arguments, which no client puts a prefix before, in the first database.
 * An epoch is that of one run of one server: after a failover or a restart the record may lack messages that were acknowledged, and
 * positions of before prove nothing. Where an ACL forbids INFO, no record proves anything.
 */
const RECORD = `
local clock, ring, fresh, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if #KEYS == 0 then redis.call('SELECT', 0) end
local function digits(n) return string.format('%.0f', n) end
local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)')
fresh = fresh .. '~' .. (server or '')
local function read_clock()
  local epoch, n = string.match(redis.call('GET', clock) or '', '^(.+):(%d+)$')
  if not server or not epoch or string.sub(epoch, -#server) ~= server then return nil end
  return epoch, tonumber(n)
end
local function move_clock(epoch, n)
  redis.call('SET', clock, epoch .. ':' .. digits(n), 'PX', lifetime)
  return epoch .. ':' .. digits(n)
end`

/**
 * ARGV clock, ring, epoch for a new clock, lifetime, channel, message. Publishes the message behind its position, and keeps it in the
 * same step. A server that is out of memory publishes it without a position and ends the record.
 */
export const announce: Announcement = {
  lua: `${RECORD}
local function keep()
  local message, now = ARGV[6], microseconds()
  local epoch, before = read_clock()
  local isLarge = #message > ${MAX_KEPT}
  if not epoch or isLarge then redis.call('UNLINK', ring) end
  local n = math.max((before or 0) + 1, now)
  local position = move_clock(epoch or fresh, n)
  redis.call('ZADD', ring, digits(n), digits(n) .. ' ' .. (isLarge and '' or message))
  local excess = redis.call('ZCARD', ring) - ${KEPT}
  if excess > 0 then redis.call('ZPOPMIN', ring, excess) end
  redis.call('PEXPIRE', ring, lifetime)
  return position
end
local done, position = pcall(keep)
if not done then
  redis.call('UNLINK', clock, ring)
  position = '-'
end
return redis.call('PUBLISH', ARGV[5], position .. ' ' .. ARGV[6])`,
}

/**
 * ARGV clock, ring, epoch for a new clock, lifetime, epoch and time of a position or ''. Returns the present position, 1 if every
 * later message is kept, and those messages. A time that no kept message has is too old, or of a server whose messages were lost.
 */
export const announced: Announcement = {
  lua: `${RECORD}
local epoch, n = read_clock()
if not epoch then
  n = digits(microseconds())
  redis.call('UNLINK', ring)
  redis.call('ZADD', ring, n, n .. ' ')
  redis.call('PEXPIRE', ring, lifetime)
  return { move_clock(fresh, tonumber(n)), 0 }
end
local reply = { epoch .. ':' .. digits(n), 0 }
local since = ARGV[6]
if epoch ~= ARGV[5] then return reply end
if tonumber(since) ~= n and #redis.call('ZRANGEBYSCORE', ring, since, since) == 0 then return reply end
reply[2] = 1
for _, text in ipairs(redis.call('ZRANGEBYSCORE', ring, '(' .. since, '+inf')) do
  reply[#reply + 1] = string.sub(text, string.find(text, ' ', 1, true) + 1)
end
return reply`,
}
