package discovery

import "testing"

func TestParseStatus(t *testing.T) {
	for text, want := range map[string]struct{ in, out []int }{
		"200":        {[]int{200}, []int{199, 201, 404}},
		"200-399":    {[]int{200, 302, 399}, []int{199, 400}},
		"2xx,404":    {[]int{200, 299, 404}, []int{300, 403, 405}},
		" 2XX , 503": {[]int{204, 503}, []int{500}},
	} {
		set, err := ParseStatus(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		for _, code := range want.in {
			if !set.Contains(code) {
				t.Errorf("%q does not contain %d", text, code)
			}
		}
		for _, code := range want.out {
			if set.Contains(code) {
				t.Errorf("%q contains %d", text, code)
			}
		}
	}
	for _, text := range []string{"", "ok", "20", "2000", "99", "600", "9xx", "xx", "399-200", "200,", "200-", "-200", "+200"} {
		if _, err := ParseStatus(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
