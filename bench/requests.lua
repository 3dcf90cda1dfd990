-- wrk script: sends the requests of a file in turn, over and over.
-- The file holds, for each request, its length as a line of digits, then its bytes.
local requests, at = {}, 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for length in file:lines() do
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("total %d us, %d requests, %d failed\n", summary.duration, summary.requests, failed))
  io.write(string.format("latency %d %d %d us\n", latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
