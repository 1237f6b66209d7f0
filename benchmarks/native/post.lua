-- Has wrk send POSTs with a body of as many bytes as the first argument says.
function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/octet-stream"
  wrk.body = string.rep("x", tonumber(args[1]))
end
