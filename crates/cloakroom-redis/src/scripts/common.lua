-- A session is one string: its kind (1), version (8), seen (8), creation (8), idle limit (8), absolute limit (8), the
-- length of the subject (1), the subject, the length of the tombstone to be (2), that tombstone, the body. What is left of
-- an ended one: its kind (1), reason (1), time (8), the tombstone. Numbers are big-endian.
local LIVE, ENDED = '\1', '\2'
local ZERO = string.rep('\0', 8)
-- Enough of a session for everything but its body.
local HEAD = 42 + 255 + 2 + 255

local function number(text, at)
  return (struct.unpack('>I8', text, at))
end

local function pack(value)
  return struct.pack('>I8', value)
end

-- Compares byte by byte: the operators on strings follow the locale.
local function less(left, right)
  for i = 1, #left do
    local a, b = string.byte(left, i), string.byte(right, i)
    if a ~= b then
      return a < b
    end
  end
  return false
end

-- The number that follows one of eight bytes; the largest stays. Exact beyond what a number here holds.
local function next_number(text)
  local bytes = { string.byte(text, 1, 8) }
  for i = 8, 1, -1 do
    if bytes[i] < 255 then
      bytes[i] = bytes[i] + 1
      return string.char(unpack(bytes))
    end
    bytes[i] = 0
  end
  return text
end

local function head_of(key)
  return redis.call('GETRANGE', key, 0, HEAD - 1)
end

local function kind_of(value)
  return string.sub(value, 1, 1)
end

local function gone(value)
  return value == '' or kind_of(value) == ENDED
end

local function readable(value)
  return kind_of(value) == LIVE and #value >= 44 and #value >= 44 + string.byte(value, 42)
end

local function subject_of(value)
  return string.sub(value, 43, 42 + string.byte(value, 42))
end

local function tombstone_of(value)
  local at = 43 + string.byte(value, 42)
  local length = struct.unpack('>H', value, at)
  return string.sub(value, at + 2, at + 1 + length)
end

local function deadline_of(value)
  return math.min(number(value, 10) + number(value, 26), number(value, 34))
end

-- The server's clock, in milliseconds since 1970.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A clock that is ahead must not keep a session alive.
local function clamped(seen, skew)
  return math.min(seen, clock() + skew)
end

-- The sum of two numbers of eight bytes; what is carried out of the first byte is lost.
local function sum(left, right)
  local bytes, carry = {}, 0
  for i = 8, 1, -1 do
    local digit = string.byte(left, i) + string.byte(right, i) + carry
    bytes[i] = digit % 256
    carry = math.floor(digit / 256)
  end
  return string.char(unpack(bytes))
end

-- The epoch under a key, and the latest time that a caller has given for it; zero where there is none, and nothing if it cannot be
-- read.
local function epoch_of(key)
  local last = redis.call('GET', key)
  if not last then
    return ZERO, ZERO
  end
  if #last ~= 16 then
    return nil
  end
  return string.sub(last, 1, 8), string.sub(last, 9, 16)
end

-- Notes one more end of all sessions. The number is the time by the server's clock, rounded up, or the next one: no caller's clock
-- comes into it. (The caller's time is for older versions of the store.)
local function raise(key, epoch, at, now, kept)
  epoch = next_number(epoch)
  local by_clock = pack(clock() + 1)
  if less(epoch, by_clock) then
    epoch = by_clock
  end
  if less(at, now) then
    at = now
  end
  redis.call('SET', key, epoch .. at, 'PX', kept)
  return epoch
end

-- How long the key stays, in milliseconds: what is left to the session, and the margin in which it is still recognised. Activity
-- before the creation shortens it: such a session waits for its token to come back.
local function life(seen, created, idle, absolute, margin)
  local left = math.min(seen + idle, absolute) - math.max(seen, created)
  return string.format('%.0f', math.max(left, 0) + margin)
end

-- An index lives as long as the longest of its members.
local function prolong(index, milliseconds)
  if redis.call('PTTL', index) < 0 then
    redis.call('PEXPIRE', index, milliseconds)
  else
    redis.call('PEXPIRE', index, milliseconds, 'GT')
  end
end

-- `stamp` is the reason and the time of the end.
local function bury(key, stamp, tombstone, margin)
  redis.call('SET', key, ENDED .. stamp .. tombstone, 'PX', margin)
end

-- `handles` in batches that fit on the stack.
local function each_batch(handles, act)
  for first = 1, #handles, 1000 do
    act(first, math.min(first + 999, #handles))
  end
end

local function strike(index, handles)
  each_batch(handles, function(first, last)
    redis.call('HDEL', index, unpack(handles, first, last))
  end)
end

local function announce(channel, handles)
  each_batch(handles, function(first, last)
    redis.call('PUBLISH', channel, table.concat(handles, '', first, last))
  end)
end
