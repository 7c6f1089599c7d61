-- What wrk sends, chosen by the environment variable SHAPE.
local shape, n = os.getenv("SHAPE") or "", 0
wrk.headers["authorization"] = os.getenv("TOKEN")
if shape == "post" then
  wrk.method, wrk.body = "POST", '{"name":"widget","price":9.5,"tags":["a","b"]}'
  wrk.headers["content-type"] = "application/json"
elseif shape == "order" then
  wrk.method, wrk.body = "POST", '{"sku":"abc-1","qty":3}'
  wrk.headers["content-type"] = "application/json"
elseif shape == "ids" then -- 1,000 keys in turn, behind the path on the command line
  function request()
    n = n % 1000 + 1
    return wrk.format(nil, wrk.path .. n)
  end
end
