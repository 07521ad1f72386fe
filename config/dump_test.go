package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// everything uses each kind of value that a configuration has, away from its default.
const everything = `
listen = [":8080", "127.0.0.1:8081", "unix:/run/sluice/front.sock"]
trusted_proxies = ["10.0.0.0/8", "::1"]
proxy_protocol = ["192.168.0.0/16", "unix"]
shutdown_delay = "1500ms"
drain_timeout = "0s"
pid = "off"
[admin]
listen = "0.0.0.0:9901"
token = "env:SLUICE_TEST_TOKEN"
[metrics]
listen = ":9100"
[metrics_api]
listen = "off"
cert = "/etc/tls/tls.crt"
key = "/etc/tls/tls.key"
window = "30s"
[log]
access = "logfmt"
level = "debug"
file = "/var/log/sluice.log"
[client]
header_timeout = "0s"
max_header = "64KiB"
max_fields = 50
max_connections = 2000
[engine]
kind = "docker"
socket = "tcp://127.0.0.1:2375"
project = "shop"
scaler = "/run/sluice/scaler.sock"
scaler_clients = [65532, 0]
[scale]
max_replicas = 20
state_file = "/state.json"

[[route]]
host = ["API.example.com", "*.example.org"]
path = "/v1"
strip_path = true
method = ["GET", "POST"]
header = { X-Tenant = "*", "Accept" = "a\t\"b\"\\c" }
query = { "a b" = "1" }
upstream = "api"
headers = { request = { Authorization = "Bearer hunter2", X-A = "" }, response = { Server = "" } }
rate_limit = { rate = "20/m", burst = 5, key = "header:X-Api-Key", status = 503 }
limit_conn = 7
max_body = "10MB"
allow = ["10.0.0.0/8"]
deny = ["10.1.2.3"]
[[route]]
path_exact = "/"
redirect = "https://$host$request_uri"
[[route]]
name = "text"
path_regex = '^/a(\d+)$'
respond = { status = 503, body = "line\nline \u0001 é" }
[[route]]
listen = ":11434"
upstream = "10.0.0.11:8000"
rewrite = "/x"
priority = "low"
fair_by = "header:X-Api-Key"
rate_limit = "1000/h"
[[route]]
listen = "unix:/run/sluice/inside.sock"
upstream = "unix:/run/app.sock"

[upstream.rpc]
servers = ["r:1"]
protocol = "h2"
tls = { server_name = "rpc.internal", verify = false }
health_check = { grpc = "pkg.Service" }
[upstream.rpc2]
servers = ["r:2"]
protocol = "h2"
tls = true
health_check = { grpc = true }
[upstream.plain]
servers = ["r:3"]
protocol = "h2c"
tls = false
[upstream.api]
servers = ["a:1", { addr = "b:1", weight = 2, max_conns = 20, backup = true }]
proxy_protocol = "v2"
balance = "hash"
hash_key = "cookie:sid"
sticky = { ttl = "1h" }
max_conns = "auto"
queue = { size = 0 }
health_check = { path = "/h", status = "2xx,404", host = "h", port = 9 }
outlier_detection = { errors = 0, max_share = 0.07 }
circuit_breaker = { failure_ratio = "33%" }
slow_start = "30s"
retry = { attempts = 0, budget = "0%" }
timeouts = { keepalive = "0s" }
[upstream."pro.c"]
process = { command = ["$SLUICE", "demo-backend"], env = { HF_TOKEN = "hunter3", N = "1" }, dir = "/tmp", stop_grace = "0s" }
scale = { min = 0, max = 3, mode = "observe", queued_per_replica = 2, in_flight_per_replica = 3, cooldown_up = "1s", cooldown_down = "0s", step_up = 1, step_down = 1, to_zero_after = "1m30s", drain_timeout = "0s", start_time = "1m", schedule = [{ cron = "0 8 * * 1-5", for = "10h", min = 2, timezone = "Europe/Berlin" }, { cron = "0 0 1 * *", for = "24h", min = 1 }] }
[upstream.vllm]
process = { command = ["x"] }
scale = { prometheus = { url = "http://p:9090", query = 'sum(x{a="b"})', per_replica = 2.5, interval = "10s", timeout = "1s" }, signals = { preset = "vllm", path = "/m", port = 9, queue = "q", task_queue = "t", running = "r", cache_usage = "c", models_loaded = "m", vector_collections = "v", vector_pending_operations = "o", interval = "3s", timeout = "1s" } }
[upstream.unbounded]
process = { command = ["x"] }
max_conns = 0
scale = {}
[upstream.con]
scale = { cpu = "70%", memory = 0.805, vertical = "recommend", vertical_min = { cpus = 0.5, memory = "64MiB" }, vertical_max = { cpus = 2 } }
container = { image = "a/b:c", command = "x", networks = ["n"], mounts = ["v:/v:ro"], memory = "1GiB", cpus = 1.5, gpus = -1, port = 80 }
[upstream.knob]
process = { command = ["x"] }
scale = { headroom = "99%" }
[upstream.srv]
service = { name = "web", port = 80, network = "n" }
[upstream.dns]
dns = "api.internal:8000"
`

func TestDumpRoundTrip(t *testing.T) {
	t.Setenv("SLUICE_TEST_TOKEN", "hunter1")
	for name, text := range map[string]string{"empty": "", "everything": everything, "listeners only on routes": "listen = []\n[[route]]\nlisten = \":1\"\nrespond = {}\n"} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("a.toml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			out := c.Dump()
			for _, secret := range []string{"hunter1", "hunter2", "hunter3"} {
				if strings.Contains(string(out), secret) {
					t.Errorf("%s is dumped:\n%s", secret, out)
				}
			}
			again, err := Parse("dump.toml", out)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if name == "everything" {
				c.Routes[0].Headers.Request["Authorization"] = redacted
				c.Upstreams["pro.c"].Replicas.Process.Env["HF_TOKEN"] = redacted
			}
			if !reflect.DeepEqual(c, again) {
				t.Errorf("differs after a dump:\n%s\nand\n%s", out, again.Dump())
			}
		})
	}
}

func TestSecretFromFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("hunter1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse("a.toml", []byte(`admin.token = "file:`+file+`"`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Admin.Token != "hunter1" {
		t.Errorf("token %q", c.Admin.Token)
	}
	if out := string(c.Dump()); strings.Contains(out, "hunter1") || !strings.Contains(out, "file:") {
		t.Errorf("dump:\n%s", out)
	}
}

// TestDumpOfATableThatMayBeOff has the tables of the top level that are off when they are not written.
func TestDumpOfATableThatMayBeOff(t *testing.T) {
	t.Setenv("SLUICE_TEST_TOKEN", "a token of some length")
	for _, text := range []string{
		"", "[peers]\ndir = \"/run/sluice\"\n",
		"[peers]\nservice = \"sluice\"\nlisten = \":9903\"\ntoken = \"env:SLUICE_TEST_TOKEN\"\n",
	} {
		c, err := Parse("a", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		dump := string(c.Dump())
		again, err := Parse("dump", []byte(dump))
		if err != nil || strings.Contains(dump, "[peers]") != (text != "") || !reflect.DeepEqual(again.Peers, c.Peers) || strings.Contains(dump, "some length") {
			t.Errorf("%q becomes %+v, %v:\n%s", text, again, err, dump)
		}
	}
}
