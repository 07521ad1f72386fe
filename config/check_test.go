package config

import (
	"strings"
	"testing"
)

// TestMistakes has a text for each rule that breaks this rule alone, so that one error is all.
func TestMistakes(t *testing.T) {
	t.Setenv("SLUICE_TEST_TOKEN", "a token of some length")
	t.Setenv("SLUICE_TEST_SHORT", "short")
	t.Setenv("SLUICE_TEST_EMPTY", "")
	const (
		up    = "\n[upstream.u]\nservers = [\"a:1\"]\n"
		bare  = "\n[upstream.u]\n"
		r     = "[[route]]\nrespond = {}\n"
		toU   = "[[route]]\nupstream = \"u\"\n"
		child = "\n[upstream.u]\nprocess = { command = \"x\" }\n"
	)
	for _, c := range []struct{ text, want string }{
		// values
		{r + `max_body = "10 MB"`, `is no size`},
		{r + `max_body = "10mb"`, `unknown unit "mb"; did you mean "10MB"?`},
		{r + `max_body = "10m"`, `did you mean "10MB"?`},
		{r + `max_body = -1`, `never negative`},
		{r + `max_body = "1e3"`, `is no size`},
		{r + `max_body = "0.5B"`, `no whole number of bytes`},
		{r + `max_body = 1.5`, `a size, as "10MB", is wanted`},
		{r + `rate_limit = 100`, `a rate with a unit is wanted, not a whole number; write "100/s"`},
		{r + `rate_limit = "100"`, `write "100/s"`},
		{r + `rate_limit = "100r/s"`, `write "100/s"`},
		{r + `rate_limit = "0/s"`, `more than 0`},
		{r + `rate_limit = "-1/s"`, `is no rate`},
		{r + `rate_limit = "1/d"`, `is no rate`},
		{r + `rate_limit = { burst = 1 }`, `rate is missing`},
		{r + `rate_limit = { rate = "1/s", burst = 0 }`, `0 is out of range: 1 to`},
		{r + `rate_limit = { rate = "1/s", key = "client-ip" }`, `did you mean "client_ip"?`},
		{r + `rate_limit = { rate = "1/s", key = "header:" }`, `"" is no header name`},
		{r + `rate_limit = { rate = "1/s", key = "uri" }`, `unknown key "uri"`},
		{r + `rate_limit = { rate = "1/s", status = 404 }`, `404 is none of 429, 503`},
		{"[[route]]\nupstream = \"a:1\"\n" + `priority = "hihg"`, `did you mean "high"?`},
		{"[[route]]\nupstream = \"a:1\"\n" + `priority = 1`, `a string is wanted`},
		{"[[route]]\nupstream = \"a:1\"\n" + `fair_by = "client-ip"`, `did you mean "client_ip"?`},
		{"[[route]]\nupstream = \"a:1\"\n" + `fair_by = "uri"`, `unknown key "uri"`},
		{"[[route]]\nupstream = \"a:1\"\n" + `fair_by = "header:a b"`, `is no header name`},
		{"[[route]]\nrespond = {}\npriority = \"low\"", `priority has no effect on a respond`},
		{"[[route]]\nrespond = {}\nfair_by = \"route\"", `fair_by has no effect on a respond`},
		{r + `limit_conn = {}`, `max is missing`},
		{r + `limit_conn = 0`, `0 is out of range`},
		{`drain_timeout = 30`, `a duration with a unit is wanted, not a whole number; write "30s"`},
		{`drain_timeout = "30"`, `"30" has no unit: write "30s"`},
		{`drain_timeout = "-1s"`, `never negative`},
		{`drain_timeout = "1d"`, `a day is "24h"`},
		{`drain_timeout = ""`, `is no duration`},
		{`drain_timeout = "9000h"`, `more than a year`},
		{up + `outlier_detection = { max_share = 50 }`, `write "50%"`},
		{up + `outlier_detection = { max_share = "150%" }`, `between 0% and 100%`},
		{up + `outlier_detection = { max_share = 1.5 }`, `between 0% and 100%`},
		{up + `outlier_detection = { max_share = nan }`, `between 0% and 100%`},
		{up + `retry = { budget = "x" }`, `is no share`},
		{up + `max_conns = "atuo"`, `"atuo" is neither "auto" nor a whole number; did you mean "auto"?`},
		{up + `max_conns = 4.5`, `"auto" or a whole number is wanted, not a number with a fraction`},
		{up + `max_conns = "4"`, `"auto" or a whole number is wanted, not the text "4"; write it without quotes`},
		{`pid = "a\u0000b"`, `NUL`},

		// top level
		{`listen = [":80", ":80"]`, `":80" and ":80" are the same port`},
		{`peers = {}`, `dir is missing`},
		{`peers.dir = "run"`, `no absolute path`},
		{`peers.dir = "/` + strings.Repeat("x", 80) + `"`, `leaves room for 70`},
		{`peers = { dir = "/run/sluice", service = "sluice" }`, `set one of them`},
		{`peers = { dir = "/run/sluice", token = "env:SLUICE_TEST_TOKEN" }`, `dir is kept by its file mode`},
		{`peers = { dir = "/run/sluice", listen = ":9903" }`, `in dir they have sockets`},
		{`peers = { service = "a/b" }`, `"a/b" is no name of a service`},
		{`peers = { service = "sluice" }`, `listen is missing`},
		{`peers = { service = "sluice", listen = ":9903" }`, `token is missing`},
		{`peers = { service = "sluice", listen = ":9903", token = "env:SLUICE_TEST_SHORT" }`, `token has 5 bytes`},
		{`peers = { service = "sluice", listen = ":9903", token = "a literal of some length" }`, `never itself`},
		{`peers = { service = "sluice", listen = "9903", token = "env:SLUICE_TEST_TOKEN" }`, `has no port`},
		{"listen = [\":9903\"]\npeers = { service = \"sluice\", listen = \":9903\", token = \"env:SLUICE_TEST_TOKEN\" }", `(line 1) are the same port`},
		{"engine.kind = \"docker\"\npeers = { service = \"sluice\", listen = \":9903\", token = \"env:SLUICE_TEST_TOKEN\" }", `need Kubernetes or Swarm, and [engine] kind is docker`},
		{`peers.dir = "/run/sluice"` + child, `processes belong to the gateway that started them`},
		{`listen = [":80", "127.0.0.1:80"]`, `are the same port`},
		{`listen = ["8080"]`, `has no port`},
		{`listen = [":http"]`, `"http" is no port`},
		{`listen = [":65536"]`, `is no port`},
		{`listen = ["::1:80"]`, `an IPv6 address stands in brackets`},
		{`listen = ["[::g]:80"]`, `no IPv6 address`},
		{`listen = ["1.2.3.256:80"]`, `no IPv4 address`},
		{`listen = ["http://a:80"]`, `without a scheme`},
		{"listen = []\n" + r, `listen is empty`},
		{`listen = [":9901"]`, `by default; give [admin] another listen`},
		{"listen = [\":80\"]\n[metrics]\nlisten = \":80\"", `(line 1) are the same port`},
		{`metrics_api.listen = "6443"`, `has no port`},
		{"listen = [\":80\"]\n[metrics_api]\nlisten = \":80\"", `(line 1) are the same port`},
		{"engine.kind = \"docker\"\n[metrics_api]\nlisten = \":6443\"", `the metrics API is Kubernetes', and [engine] kind is docker`},
		{`metrics_api = { listen = ":6443", cert = "/a" }`, `key is missing`},
		{`metrics_api = { listen = ":6443", key = "/a" }`, `cert is missing`},
		{`metrics_api.window = "500ms"`, `1s to 5m`},
		{`metrics_api.window = "6m"`, `1s to 5m`},
		{r + `listen = "127.0.0.1:8080"`, `are the same port`},
		{r + `listen = "127.0.0.1:9901"`, `are the same port`},
		{r + `listen = ""`, `listen is empty`},
		{`trusted_proxies = ["10.1.2.3/8"]`, `"10.0.0.0/8" is the network`},
		{`trusted_proxies = ["all"]`, `neither an address nor a CIDR`},
		{`trusted_proxies = ["10.0.0.0/33"]`, `neither an address nor a CIDR`},
		{`trusted_proxies = ["::ffff:10.0.0.0/104"]`, `write the IPv4 network`},
		{`trusted_proxies = ["10.0.0.1", "10.0.0.1"]`, `stands twice`},
		{`pid = ""`, `it is empty`},
		{`admin.listen = ":9901"`, `can be reached from elsewhere and has no token`},
		{`admin.listen = "10.0.0.1:9901"`, `has no token`},
		{`admin.listen = "of"`, `did you mean "off"?`},
		{`admin.listen = "unix:rel"`, `written "unix:/path"`},
		{`admin = { listen = ":1", token = "x" }`, `never itself`},
		{`admin.token = "env:SLUICE_NOT_SET"`, `SLUICE_NOT_SET is not set`},
		{`admin.token = "env:SLUICE_TEST_EMPTY"`, `is empty`},
		{`admin.token = "file:/dev/zero"`, `no regular file`},
		{`admin.token = "file:/none/such"`, `cannot be read`},
		{`admin.token = "env:"`, `never itself`},
		{`log.access = "jsn"`, `"jsn" is none of json, combined, logfmt and off; did you mean "json"?`},
		{`log.level = "warning"`, `did you mean "warn"?`},
		{`engine.kind = "docke"`, `did you mean "docker"?`},
		{`engine.socket = "/var/run/docker.sock"`, `did you mean "unix:///var/run/docker.sock"?`},
		{`engine.socket = "npipe://x"`, `is no socket`},
		{`engine.scaler = "run/scaler.sock"`, `absolute path`},
		{`engine.scaler_clients = [0, -1]`, `-1 is out of range`},
		{`client.max_fields = 257`, `1 to 256`},
		{`client.max_connections = -1`, `out of range`},
		{`client.max_header = "1B"`, `out of range`},
		{`scale.max_replicas = -1`, `out of range`},
		{"scale.max_replicas = 1" + child + `scale = { min = 2 }`, `less than all scale.min together (2)`},

		// routes
		{"[[route]]\nhost = \"a\"", `the route does nothing`},
		{r + `redirect = "/"`, `one thing: this one has redirect already`},
		{"[[route]]\nupstream = \"demp\"\n[upstream.demo]\nservers = [\"a:1\"]", `there is no upstream "demp"; did you mean "demo"?`},
		{"[[route]]\nupstream = \"x\"", `add [upstream.x], or a port to make it an address`},
		{"[[route]]\nupstream = \"x:\"", `"" is no port`},
		{"[[route]]\nupstream = \"http://x:1\"", `without a scheme`},
		{"[[route]]\nupstream = \":80\"", `has no host`},
		{"[[route]]\nupstream = \"0.0.0.0:80\"", `every address of a machine`},
		{"[[route]]\nupstream = \"\"", `name is empty`},
		{r + "name = \"a\"\n[[route]]\nname = \"a\"\nhost = \"b\"\nrespond = {}", `taken by the route in line 3`},
		{r + `name = " a"`, `printable`},
		{r + `name = "a\nb"`, `printable`},
		{r + r, `matches the same requests as the route "*" in line 1`},
		{r + "host = [\"a\", \"b\"]\n" + r + `host = "B."`, `matches the same requests`},
		{r + "path = \"/a\"\n" + r + `path = "/a/"`, `matches the same requests`},
		{r + "method = [\"GET\", \"PUT\"]\n" + r + `method = ["PUT", "POST"]`, `matches the same requests`},
		{r + "header = { X-A = \"1\" }\n" + r + `header = { x-a = "1" }`, `matches the same requests`},
		{r + `host = "a:80"`, `a host has no port`},
		{r + `host = "http://a"`, `no scheme`},
		{r + `host = "a/b"`, `no path`},
		{r + `host = "*"`, `leave host out`},
		{r + `host = ""`, `is empty`},
		{r + `host = []`, `the list is empty`},
		{r + `host = "a.*.b"`, `only for the first part`},
		{r + `host = "a b"`, `it contains ' '`},
		{r + `host = "a\r\nb"`, `it contains '\r'`},
		{r + `host = "é.fr"`, `ASCII form`},
		{r + `host = "-a"`, `begins or ends with -`},
		{r + `host = "a..b"`, `1 to 63`},
		{r + `host = "::1"`, `in brackets`},
		{r + `host = ["a", "A"]`, `stands twice`},
		{r + `path = "a"`, `begins with /`},
		{r + `path = "/a?b"`, `no query`},
		{r + `path = "/a//b"`, `empty segment`},
		{r + `path = "/a/../b"`, `never matches`},
		{r + `path = "/a b"`, `no blank`},
		{r + `path = "/a%2Fb"`, `encoded slash`},
		{r + `path = "/a%zz"`, `3:8: the path has a broken percent escape`},
		{r + "path = \"/a\"\n" + r + `path = "/%61"`, `can never be reached`},
		{r + "path = \"/a\"\npath_exact = \"/b\"", `one of path, path_exact and path_regex`},
		{r + `path_regex = "("`, `missing closing )`},
		{r + `path_regex = "a(?=b)"`, `invalid or unsupported Perl syntax`},
		{r + `method = "get"`, `did you mean "GET"?`},
		{r + `method = "GTE"`, `did you mean "GET"?`},
		{r + `method = "G T"`, `is no method`},
		{r + `method = "CONNECT"`, `tunnels nothing`},
		{r + `header = { "a b" = "1" }`, `no header field name`},
		{r + `header = { a = "1\r\nb: 2" }`, `control character`},
		{r + `header = { A = "1", a = "2" }`, `the same field`},
		{r + `query = { "" = "1" }`, `no query parameter`},
		{r + `headers = { response = { X = "1\nSet-Cookie: a" } }`, `control character`},
		{r + `headers = { response = { "X:" = "1" } }`, `no header field name`},
		{r + `headers = { request = { Content-Length = "1" } }`, `belongs to the connection`},
		{r + `headers = { request = { transfer-encoding = "" } }`, `belongs to the connection`},
		{r + `headers = { request = { Host = "" } }`, `cannot be the Host`},
		{toU + `strip_path = true` + up, `needs path or path_exact`},
		{toU + "path_regex = \"/a\"\nstrip_path = true" + up, `use rewrite`},
		{toU + "path = \"/a\"\nstrip_path = true\nrewrite = \"/b\"" + up, `both change the path`},
		{toU + `rewrite = "b"` + up, `begins with /`},
		{toU + "path_regex = \"/(a)\"\nrewrite = \"/$2\"" + up, `$2: path_regex has 1 groups`},
		{r + `rewrite = "/b"`, `no effect on a respond`},
		{"[[route]]\nredirect = { status = 301 }", `to is missing`},
		{"[[route]]\nredirect = { to = \"/\", status = 200 }", `200 is none of 301, 302, 303, 307, 308`},
		{"[[route]]\nredirect = \"/$hots\"", `unknown variable $hots; did you mean "$host"?`},
		{"[[route]]\nredirect = \"/a\\r\\nb\"", `is no location`},
		{"[[route]]\nrespond = { status = 99 }", `200 to 599`},
		{"[[route]]\nrespond = { status = 204, body = \"x\" }", `has no body`},
		{"[[route]]\nrespond = { content_type = \"a\\nb\" }", `control character`},
		{r + `allow = ["10.0.0.1/8"]`, `bits beyond its mask`},

		// upstreams
		{bare, `the upstream has no source`},
		{up + `dns = "a:1"`, `one source: this one has servers already`},
		{bare + `servers = []`, `the list of servers is empty`},
		{bare + `servers = "a:1"`, `a list is wanted`},
		{bare + `servers = ["a"]`, `has no port`},
		{bare + `servers = ["a:0"]`, `is no port`},
		{bare + `servers = ["A:1", "a:1"]`, `stands twice`},
		{bare + `servers = ["localhost:1", "127.0.0.1:1"]`, `stands twice`},
		{bare + `servers = [{ weight = 1 }]`, `addr is missing`},
		{bare + `servers = [{ addr = "a:1", weight = 0 }]`, `1 to 65535`},
		{bare + `servers = [{ addr = "a:1", max_conns = -1 }]`, `out of range`},
		{bare + `dns = "10.0.0.1:80"`, `write servers = ["10.0.0.1:80"]`},
		{bare + `service = ""`, `no name of a service`},
		{bare + `service = { port = 1 }`, `name is missing`},
		{"engine.kind = \"none\"" + bare + `service = "x"`, `needs an engine, and [engine] kind is none`},
		{"engine.kind = \"none\"" + bare + `container = "x"`, `needs an engine`},
		{"[upstream.\"a:1\"]\nservers = [\"a:1\"]", `no name of an upstream`},
		{"[upstream.\"a/b\"]\nservers = [\"a:1\"]", `no name of an upstream`},
		{up + `balance = "least_requests"`, `did you mean "least_request"?`},
		{up + `hash_key = "uri"`, `add balance = "hash"`},
		{up + "balance = \"hash\"\nhash_key = \"cookies:a\"", `unknown key "cookies:a"`},
		{up + `sticky = "a b"`, `no name of a cookie`},
		{up + `max_conns = -1`, `out of range`},
		{up + `queue = { size = -1 }`, `out of range`},
		{up + `queue = { timeout = "0s" }`, `switches the queue off`},
		{up + `circuit_breaker = { failure_ratio = 0.0 }`, `never close`},
		{up + `circuit_breaker = { min_requests = 0 }`, `out of range`},
		{up + `circuit_breaker = { open_for = "0s" }`, `too short`},
		{up + `timeouts = { connect = "0s" }`, `too short`},
		{up + `retry = { attempts = 11 }`, `0 to 10`},
		{up + `health_check = "healthz"`, `begins with /`},
		{up + `health_check = "/a b"`, `no blank`},
		{up + `health_check = { path = "/", interval = "0s" }`, `too short`},
		{up + `health_check = { path = "/", rise = 0 }`, `out of range`},
		{up + `health_check = { path = "/", status = "299-200" }`, `is no status`},
		{up + `health_check = { path = "/", status = "6xx" }`, `is no status`},
		{up + `health_check = { path = "/", host = "a\r\nb" }`, `it contains '\r'`},
		{up + `health_check = { status = "200" }`, `status has no effect`},
		{bare + `process = {}`, `command is missing`},
		{bare + `process = { command = [] }`, `the command is empty`},
		{bare + `process = { command = "x", env = { "A=" = "" } }`, `environment variable`},
		{bare + `container = { command = "x" }`, `image is missing`},
		{bare + `container = "a b"`, `no name of an image`},
		{bare + `container = { image = "a", mounts = ["/a"] }`, `is no mount`},
		{bare + `container = { image = "a", mounts = ["/a:b"] }`, `target begins with /`},
		{bare + `container = { image = "a", mounts = ["a/b:/b"] }`, `from / on`},
		{bare + `container = { image = "a", mounts = ["/a:/b:rx"] }`, `neither ro nor rw`},
		{bare + `container = { image = "a", memory = "1MiB" }`, `less than 6MiB`},
		{bare + `container = { image = "a", cpus = -1.0 }`, `out of range`},
		{bare + `container = { image = "a", gpus = -2 }`, `out of range`},
		{bare + `container = { image = "a", networks = ["a", "a"] }`, `stands twice`},
		{up + `scale = {}`, `nothing can be started for servers`},
		{child + `scale = { min = 5, max = 3 }`, `min (5) is greater than max (3)`},
		{child + `scale = { min = 11 }`, `min (11) is greater than max (10)`},
		{child + `scale = { min = -1 }`, `out of range`},
		{child + `scale = { max = 0 }`, `out of range`},
		{child + `scale = { mode = "aply" }`, `did you mean "apply"?`},
		{child + `scale = { to_zero_after = "1m" }`, `add min = 0`},
		{child + `scale = { step_up = -1 }`, `out of range`},
		{child + `scale = { schedule = [{ cron = "0 8 * *", for = "1h", min = 2 }] }`, `4:32: "0 8 * *" is no cron expression`},
		{child + `scale = { schedule = [{ cron = "TZ=UTC 0 8 * * *", for = "1h", min = 2 }] }`, `the time zone is a key of its own`},
		{child + `scale = { schedule = [{ cron = "0 0 30 2 *", for = "1h", min = 2 }] }`, `"0 0 30 2 *" never comes`},
		{child + `scale = { schedule = [{ cron = "0 8 * * *", for = "1h", min = 2, timezone = "Berlin" }] }`, `"Berlin" is no name of a time zone`},
		{child + `scale = { schedule = [{ cron = "0 8 * * *", for = "1s", min = 2 }] }`, `a rule holds from 1m to 8784h`},
		{child + `scale = { schedule = [{ cron = "0 8 * * *", min = 2 }] }`, `for is missing`},
		{child + `scale = { schedule = [{ cron = "0 8 * * *", for = "1h", min = 11 }] }`, `min (11) is greater than max (10)`},
		{child + `scale = { min = 2, schedule = [{ cron = "0 8 * * *", for = "1h", min = 2 }] }`, `min 2 has no effect: scale holds 2 anyway`},
		{child + `scale = { schedule = [{ cron = "0 8 * * *", for = "1h", min = 2, zone = "UTC" }] }`, `4:66: unknown key "zone"`},
		{child + `scale = { headroom = 1.0 }`, `between 50% and 99.9%`},
		{child + `scale = { headroom = 0.3 }`, `between 50% and 99.9%`},
		{child + `scale = { vertical = "aply" }`, `did you mean "apply"?`},
		{child + `scale = { vertical = "apply" }`, `a process has no limits that could be changed`},
		{"[engine]\nkind = \"swarm\"\n[upstream.a]\nservice = \"a\"\n" + `scale = { vertical = "apply" }`, `changes the resources of a task only by replacing`},
		{"[engine]\nscaler = \"/run/s.sock\"\n[upstream.a]\nservice = \"a\"\n" + `scale = { vertical = "apply" }`, `sluice scaler passes on numbers`},
		{"[upstream.a]\nservice = \"a\"\n" + `scale = { mode = "observe", vertical = "apply" }`, `no effect with mode "observe"`},
		{"[upstream.a]\nservice = \"a\"\n" + `scale = { cpu = "70%", vertical = "apply" }`, `each would answer the other`},
		{child + `scale = { vertical_min = { cpus = 1 } }`, `add vertical = "recommend"`},
		{child + `scale = { vertical_max = { cpus = 1 } }`, `vertical_max has no effect`},
		{child + `scale = { vertical = "recommend", vertical_max = { cpus = -1 } }`, `-1 is out of range`},
		{child + `scale = { vertical = "recommend", vertical_min = { memory = "1MiB" } }`, `less than 6MiB`},
		{child + `scale = { vertical = "recommend", vertical_min = { cpu = 1 } }`, `did you mean "cpus"?`},
		{child + `scale = { vertical = "recommend", vertical_min = { cpus = 2 }, vertical_max = { cpus = 1 } }`, `vertical_max.cpus (1) is below vertical_min.cpus (2)`},
		{child + `scale = { vertical = "recommend", vertical_min = { memory = "2GiB" }, vertical_max = { memory = "1GiB" } }`, `vertical_max.memory is below`},
		{child + `scale = { headroom = 0.9, queued_per_replica = 3 }`, `headroom has no effect`},
		{child + `scale = { headroom = 0.9, prometheus = { url = "http://p:9090", query = "x", per_replica = 3 } }`, `headroom has no effect`},
		{child + `scale = { prometheus = { query = "x", per_replica = 3 } }`, `url is missing`},
		{child + `scale = { prometheus = { url = "http://p:9090", per_replica = 3 } }`, `query is missing`},
		{child + `scale = { prometheus = { url = "http://p:9090", query = "x" } }`, `per_replica is missing`},
		{child + `scale = { prometheus = { url = "p:9090", query = "x", per_replica = 3 } }`, `no address of a Prometheus`},
		{child + `scale = { prometheus = { url = "http://u:hunter2@p:9090", query = "x", per_replica = 3 } }`, `a user or password cannot be given`},
		{child + `scale = { prometheus = { url = "http://p:9090/api?x=1", query = "x", per_replica = 3 } }`, `more than an address`},
		{child + `scale = { prometheus = { url = "http://p:9090", query = " ", per_replica = 3 } }`, `query is empty`},
		{child + `scale = { prometheus = { url = "http://p:9090", query = "x", per_replica = 0 } }`, `a number above 0`},
		{child + `scale = { prometheus = { url = "http://p:9090", query = "x", per_replica = nan } }`, `a number above 0`},
		{child + `scale = { prometheus = { url = "http://p:9090", query = "x", per_replica = 1, timeout = "6s" } }`, `timeout (6s) is longer than interval (5s)`},
		{child + `scale = { prometheus = { url = "http://p:9090", query = "x", per_replica = 1, interval = "1s" } }`, `shorten timeout as well`},
		{child + `scale = { prometheus = { url = "http://p:9090", query = "x", per_replica = 1, pre_replica = 1 } }`, `did you mean "per_replica"?`},
		{child + `scale = { signals = {} }`, `signals needs preset`},
		{child + `scale = { signals = { preset = "vlm" } }`, `did you mean "vllm"?`},
		{child + `scale = { signals = { queue = "" } }`, `it is empty`},
		{child + `scale = { signals = { preset = "tgi", path = "metrics" } }`, `no path`},
		{child + `scale = { signals = { preset = "tgi", port = 70000 } }`, `out of range`},
		{child + `scale = { signals = { preset = "tgi", interval = "10ms" } }`, `1s at least`},
		{child + `scale = { cpu = "70" }`, `"70" is no share: write "70%" or 0.7`},
		{child + `scale = { cpu = "170%" }`, `a share is between 0% and 100%`},
		{child + `scale = { cpu = "0%" }`, `4:17: cpu is a share above 0%; leave it out to switch it off`},
		{child + `scale = { memory = "80%" }`, `4:11: a process has no limit of memory of which it could be a share`},
		{child + `scale = { headroom = 0.9, cpu = 0.7 }`, `headroom has no effect`},
		{"\n[upstream.u]\ncontainer = \"x\"\nscale = { cpu = \"70%\" }", `4:11: cpu is a share of a limit, and the container has none; add cpus to container`},
		{"\n[upstream.u]\ncontainer = { image = \"x\", cpus = 1 }\nscale = { cpu = 0.7, memory = \"80%\" }", `4:22: memory is a share of a limit, and the container has none; add memory to container`},
		{"\n[upstream.u]\ncontainer = { image = \"x\", cpus = 1 }\nscale = { cpu = \"95%\" }", `4:17: nothing can use more than its limit: above 90% no replica would ever be added`},
		{"engine.kind = \"swarm\"\n[upstream.u]\nservice = \"x\"\nscale = { cpu = \"70%\" }", `4:11: Swarm tells nothing of what containers on other nodes use; size by prometheus`},
		{bare + "service = \"x\"\nscale = { min = 0 }", `a service keeps its last container`},
		{bare + `service = { name = "x", port_name = "no name" }`, `no name of a port`},
		{"engine = { kind = \"docker\", namespace = \"x\" }\n" + r, `namespace has no effect`},
		{"engine = { kind = \"kubernetes\", namespace = \"X.y\" }\n" + r, `no name of a namespace`},
		{"engine.kind = \"kubernetes\"\n" + bare + `container = "x"`, `containers are declared on a Docker Engine`},
	} {
		got := places(t, c.text)
		if len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("%s\ngot  %s\nwant %s", c.text, strings.Join(got, "\n     "), c.want)
		}
	}
}

// TestAccepted are texts that look like mistakes and are none.
func TestAccepted(t *testing.T) {
	const r = "[[route]]\nrespond = {}\n"
	for _, text := range []string{
		"", "# nothing",
		`admin.listen = "off"`, `admin.listen = "unix:/run/sluice.sock"`, `admin.listen = "[::1]:1"`, `admin.listen = "localhost:1"`,
		`listen = [":0", ":0"]`, `listen = ["127.0.0.1:80", "127.0.0.2:80"]`,
		"listen = []\n" + r + `listen = ":1"`,
		r + `listen = ":8080"`,
		r + r + `method = "GET"`, r + r + `path_exact = "/"`, r + r + `listen = ":1"`, r + r + `path_regex = "/"`,
		r + "path = \"/a\"\n" + r + "host = \"a\"\npath = \"/a\"",
		r + "host = [\"[::1]\", \"10.0.0.1\", \"*.a\", \"a_b\"]",
		r + `method = "PROPFIND"`,
		"[[route]]\nupstream = \"[::1]:80\"\n[[route]]\nhost = \"a\"\nupstream = \"[::1]:80\"",
		"[upstream.u]\nservers = [\"a:1\"]\nhash_key = \"client_ip\"",
		"[upstream.u]\nprocess = { command = [\"x\"] }\nscale = { min = 0, to_zero_after = \"1s\" }",
		"[upstream.u]\nprocess = { command = [\"x\"] }\nscale = { headroom = 0.9 }",
		"[upstream.u]\nprocess = { command = [\"x\"] }\nscale = { cpu = 0.95 }",
		"[upstream.u]\ncontainer = { image = \"x\", cpus = 1, memory = \"64MiB\" }\nscale = { cpu = \"70%\", memory = \"80%\" }",
		"engine.kind = \"kubernetes\"\n[upstream.u]\nservice = \"x\"\nscale = { cpu = \"100%\", memory = 1.0 }",
		"[upstream.u]\nprocess = { command = [\"x\"] }\nscale = { headroom = \"99.9%\" }",
		"[upstream.u]\nprocess = { command = [\"x\"] }\nscale = { prometheus = { url = \"https://p/base/\", query = \"sum(x)\", per_replica = 0.5, interval = \"1s\", timeout = \"1s\" } }",
		"[upstream.u]\nprocess = { command = [\"x\"] }\nscale = { queued_per_replica = 5, signals = { path = \"/tasks?all=1\", task_queue = \"tasks.waiting\" } }",
		"engine = { kind = \"kubernetes\", namespace = \"team-a\" }\n[upstream.u]\nservice = { name = \"x\", port_name = \"http\" }\nscale = { min = 0 }",
	} {
		if got := places(t, text); got != nil {
			t.Errorf("%s\n%s", text, strings.Join(got, "\n"))
		}
	}
}

func TestRouteNames(t *testing.T) {
	c, err := Parse("a", []byte(`
[[route]]
respond = {}
[[route]]
name = "a.com/v1"
host = "b.com"
respond = {}
[[route]]
host = "a.com"
path = "/v1"
respond = {}
[[route]]
host = ["a.com", "c.com"]
path_exact = "/x"
method = ["GET", "PUT"]
header = { X-Api-Key = "hunter2" }
respond = {}
[[route]]
listen = ":11434"
path_regex = "^/a b"
respond = {}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.Routes {
		got = append(got, r.Name)
	}
	if want := "* | a.com/v1 | a.com/v1#2 | GET,PUT a.com+1=/x X-Api-Key: | *:11434~^/a b"; strings.Join(got, " | ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, " | "), want)
	}
}
