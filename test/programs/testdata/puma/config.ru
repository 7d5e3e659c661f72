run lambda { |env|
  env["rack.input"].read
  [200, { "content-type" => "text/plain", "x-worker-version" => ENV["RELEASE"].to_s }, ["ok\n"]]
}
