-- wrk's part: asks one route with the cookies of a file in turn, and prints one line of figures.
-- Arguments after --: METHOD PATH [FILE]
local requests, next_one = {}, 0

function init(args)
  local headers = {
    ["Host"] = "127.0.0.1",
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ["Sec-Fetch-Site"] = "same-origin",
  }
  if args[3] then
    for cookie in io.lines(args[3]) do
      headers["Cookie"] = cookie
      requests[#requests + 1] = wrk.format(args[1], args[2], headers)
    end
  else
    requests[1] = wrk.format(args[1], args[2], headers)
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency, _)
  local errors = summary.errors
  local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("figures\t%d\t%d\t%d\t%d\t%d\t%d\n", summary.requests, summary.duration, bad,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
