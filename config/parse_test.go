package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// places gives "line:column message" of each error.
func places(t *testing.T, text string) []string {
	t.Helper()
	c, err := Parse("a.toml", []byte(text))
	if err == nil {
		if c == nil {
			t.Fatal("neither a configuration nor an error")
		}
		return nil
	}
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	var all []string
	for _, e := range errs {
		if e.Pos.File != "a.toml" || c != nil {
			t.Errorf("%v, with a configuration: %t", e, c != nil)
		}
		all = append(all, strings.TrimPrefix(e.Error(), "a.toml:"))
	}
	return all
}

func TestThreeMistakesInOneRun(t *testing.T) {
	_, err := Parse("config.toml", []byte(`listen = [":8080"]

[[route]]
hots = "api.example.com"
upstream = "api"

[upstream.api]
	max_conns = "four"
servers = ["10.0.0.11:8000", "10.0.0.11:8000"]
`))
	want := `config.toml:4:1: unknown key "hots" in [[route]]; did you mean "host"?
    hots = "api.example.com"
    ^^^^
config.toml:8:14: "auto" or a whole number is wanted, not the text "four"
    	max_conns = "four"
    	            ^^^^^^
config.toml:9:30: the server "10.0.0.11:8000" stands twice; weight gives it a larger share
    servers = ["10.0.0.11:8000", "10.0.0.11:8000"]
                                 ^^^^^^^^^^^^^^^^`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestPlaces has each way to write a key.
func TestPlaces(t *testing.T) {
	const demo = "\n[upstream.x]\nservers = [\"a:1\"]\n"
	for _, c := range []struct{ name, text, want string }{
		{"plain", "lisen = 1", `1:1: unknown key "lisen" in the top level; did you mean "listen"?`},
		{"table", "[adminn]\nx = 1", `1:1: unknown key "adminn" in the top level; did you mean "admin"?`},
		{"in a table", "[admin]\n  tken = 1", `2:3: unknown key "tken" in [admin]; did you mean "token"?`},
		{"dotted", "log.acess = 1", `1:5: unknown key "acess" in [log]; did you mean "access"?`},
		{"dotted with blanks", `log . "acess" = 1`, `1:7: unknown key "acess" in [log]; did you mean "access"?`},
		{"dotted header", demo + "[upstream . x . queue]\nsiz = 1", `5:1: unknown key "siz" in [upstream.x.queue]; did you mean "size"?`},
		{"inline table", demo + "queue = { timeout = \"1s\", siz = 1 }", `4:27: unknown key "siz" in [upstream.x.queue]; did you mean "size"?`},
		{"inline table over lines", demo + "queue = {\n  timeout = \"1s\", # }\n  siz = 1,\n}", `6:3: unknown key "siz" in [upstream.x.queue]; did you mean "size"?`},
		{"array over lines", "listen = [\n  \":1\", # ]\n\n  \"]\", 7,\n]", "4:3: \"]\" has no port: write host:port\n4:8: a string is wanted, not a whole number"},
		{"table in an array", "[upstream.x]\nservers = [\"a:1\", { addr = \"b:1\", wieght = 2 }]", `2:35: unknown key "wieght" in [upstream.x.servers]; did you mean "weight"?`},
		{"second of an array of tables", "[[route]]\nrespond = {}\n[[route]]\nhost = 1\nrespond = {}", `4:8: a list is wanted, not a whole number`},
		{"table under an array of tables", "[[route]]\nrespond = {}\n[[route]]\nhost = \"a\"\n[route.respond]\nstats = 1", `6:1: unknown key "stats" in [route.respond]; did you mean "status"?`},
		{"quoted key", "[upstream.\"a b\"]\nservers = [\"a:1\"]", `1:1: "a b" is no name of an upstream: letters, digits, - _ . (63 at most), beginning with a letter or digit`},
		{"escaped key", `"\u006cog" = 1`, `1:14: a table is wanted, not a whole number`},
		{"literal key", `'log'.level = "x"`, `1:15: "x" is none of debug, info, warn and error`},
		{"after a multi-line string", "[[route]]\nrespond = { body = \"\"\"\n[x]\na = \\\"\"\"\" }\nhots = 1", `5:1: unknown key "hots" in [[route]]; did you mean "host"?`},
		{"after a literal multi-line string", "[[route]]\nrespond = { body = '''\n\\'''' }\nhots = 1", `4:1: unknown key "hots" in [[route]]; did you mean "host"?`},
		{"windows line ends", "listen = [\":1\"]\r\n[log]\r\nlevel = 1\r\n", `3:9: a string is wanted, not a whole number`},
		{"byte order mark", "\ufefflisen = 1", `1:1: unknown key "lisen" in the top level; did you mean "listen"?`},
		{"characters before", `log = { "é" = "é", level = 1 }`, "1:9: unknown key \"é\" in [log]\n1:28: a string is wanted, not a whole number"},
		{"date", "pid = 2020-01-01 00:00:00\nlisen = 1", "1:7: a string is wanted, not a date\n2:1: unknown key \"lisen\" in the top level; did you mean \"listen\"?"},
		{"syntax", "listen = [\":1\"]\n[log\nlevel = 1", `2:5: not TOML: expected '.' or ']' to end table name, but got '\n' instead`},
		{"syntax behind blanks", "pid = \"ünïcødé\"  ; lisen = 1", `1:18: not TOML: expected a top-level item to end with a newline, comment, or EOF, but got ';' instead`},
		{"same key twice", "pid = \"a\"\npid = \"b\"", `2:1: not TOML: Key 'pid' has already been defined`},
		{"key of another table", "max_replicas = 1", `1:1: unknown key "max_replicas" in the top level; max_replicas is a key of [scale]`},
		{"one bracket too few", "[route]\nrespond = {}", `1:1: route is a list of tables; write [[route]]`},
		{"nested too deep", "a = " + strings.Repeat("[", 100000), `1:69: nested more than 64 deep`},
		{"too many parts", strings.Repeat("a.", 100000) + "a = 1", `1:130: nested more than 64 deep`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(places(t, c.text), "\n"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	for _, text := range []string{
		`admin.token = "hunter2"`,
		"[admin]\ntoken = 'hunter2'",
		`admin = { token = "hunter2", listn = 1 }`,
		`admin = { listn = 1, "token" = "hunter2" }`,
		`admin = { listn = 1, token = "hunter2`,
		"[admin]\ntoken = hunter2",
		"[admin]\ntoken = [\"hunter2\"]",
		"[upstream.x]\nprocess = { command = 1, env = { HF_TOKEN = \"hunter2\" } }",
	} {
		_, err := Parse("a.toml", []byte(text))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s:\n%v", text, err)
		}
	}
}

func TestLongLineKeepsCaretInSight(t *testing.T) {
	_, err := Parse("a.toml", []byte(`listen = ["`+strings.Repeat("x", 500)+`", 7, "`+strings.Repeat("y", 500)+`"]`))
	for line := range strings.Lines(err.Error()) {
		if strings.HasPrefix(line, "    ") && len([]rune(line)) > 140 {
			t.Errorf("%d characters: %s", len([]rune(line)), line)
		}
	}
	if !strings.Contains(err.Error(), "\n    "+strings.Repeat(" ", 61)+"^\n") {
		t.Errorf("%v", err)
	}
}

func TestLoad(t *testing.T) {
	if _, err := Load(t.TempDir() + "/none.toml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
	if _, err := Parse("big", make([]byte, maxFile+1)); err == nil {
		t.Error("a file of any size was read")
	}
}

func TestShippedFile(t *testing.T) {
	c, err := Load("../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	u := c.Upstreams["demo"]
	got := fmt.Sprintln(c.Listen, c.Admin.Listen, len(c.Routes), c.Routes[0].Name, u.Scale.Min, u.Scale.Max, u.Replicas.Process.Command[0], u.Discovery.HealthCheck.Path)
	if want := "[:8080] 127.0.0.1:9901 1 * 1 6 $SLUICE /healthz\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzParse: no text makes Parse panic, every error stands inside the text, and what is accepted
// survives a dump.
func FuzzParse(f *testing.F) {
	f.Add(strings.ReplaceAll(everything, "env:SLUICE_TEST_TOKEN", "env:PATH"))
	f.Add("a = [\n1, {b = '''x''', \"c\" . d = 1979-05-27 07:32:00}]\n[[a.b]]\n[a.b.c]")
	f.Add("\ufeffx = \"\\u00e9\\\"\" # é\r\n[route]\n")
	f.Add("\ufeff\ufeff\n\"\u00e9\\\"\x83\\??:[\" e]# é\n\xeb[roue9")
	f.Add("[[route]]\nhost='a'\nupstream='[::1]:80'\nrate_limit='3/m'\nmax_body='1.5KiB'")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file:") {
			t.Skip()
		}
		c, err := Parse("f", []byte(text))
		if err == nil {
			if again, err := Parse("dump", c.Dump()); err != nil {
				t.Fatalf("%v\n%s", err, c.Dump())
			} else if a, b := string(c.Dump()), string(again.Dump()); a != b {
				t.Fatalf("dumps differ:\n%s\n%s", a, b)
			}
			return
		}
		lines := strings.Split(strings.TrimLeft(text, "\ufeff"), "\n")
		var errs Errors
		if !errors.As(err, &errs) {
			t.Fatalf("%T", err)
		}
		for _, e := range errs {
			if e.Pos.Line < 1 || e.Pos.Line > len(lines) || e.Pos.Column < 1 || e.Pos.Column > len([]rune(lines[e.Pos.Line-1]))+1 {
				t.Fatalf("%v is outside of %q", e, text)
			}
		}
		_ = err.Error()
	})
}

func TestMistakesAreBounded(t *testing.T) {
	if got := places(t, "listen = ["+strings.Repeat("7,", 20000)+"]"); len(got) != maxErrors {
		t.Errorf("%d errors", len(got))
	}
}
