package proxy

import (
	"encoding/json"
	"testing"
)

func TestRedacted(t *testing.T) {
	for in, want := range map[string]string{
		"/a":                            "/a",
		"/a?":                           "/a?",
		"/a?b=c&d":                      "/a?b=c&d",
		"/a?token=x&b=c":                "/a?token=***&b=c",
		"/a?Access_Token=x":             "/a?Access_Token=***",
		"/a?b=c;password=x;d=e":         "/a?b=c;password=***;d=e",
		"/a?%74oken=x":                  "/a?%74oken=***",
		"/a?X-Amz-Signature=1&key=2":    "/a?X-Amz-Signature=***&key=***",
		"/a?api_key=1&apiKEY=2&sig=3":   "/a?api_key=***&apiKEY=***&sig=***",
		"/a?design=1&encode=2&barcode=": "/a?design=1&encode=2&barcode=",
		"https://x/?code=1#f":           "https://x/?code=***",
	} {
		if got := string(appendRedacted(nil, []byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestJSONEscapes(t *testing.T) {
	for in, want := range map[string]string{
		"plain":        "plain",
		"a\"b\\c":      "a\"b\\c",
		"line\nfeed":   "line\nfeed",
		"\x00\x1b\x7f": "\x00\x1b\x7f",
		"é€😀":          "é€😀",
		"cut \xe2\x82": "cut ��",
		"\xff":         "�",
	} {
		var got string
		quoted := append(appendJSONEscaped([]byte{'"'}, in), '"')
		if err := json.Unmarshal(quoted, &got); err != nil || got != want {
			t.Errorf("%q: %s reads %q, %v", in, quoted, got, err)
		}
		for _, c := range quoted {
			if c < ' ' {
				t.Errorf("%q: a control character is in the line", in)
			}
		}
	}
}

func TestCombinedEscapes(t *testing.T) {
	if got := string(appendHexEscaped(nil, []byte("a\"b\\c\nd\x00\xff"))); got != `a\x22b\x5Cc\x0Ad\x00\xFF` {
		t.Errorf("%s", got)
	}
}
