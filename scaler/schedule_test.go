package scaler

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestScheduleRaisesMin(t *testing.T) {
	s := newSchedule([]ScheduleRule{
		{Cron: "0 8 * * 1-5", For: 10 * time.Hour, Min: 4, Timezone: "Europe/Berlin"},
		{Cron: "30 23 * * *", For: time.Hour, Min: 9, Timezone: "UTC"},
		{Cron: "0 12 * * *", For: time.Hour, Min: 2, Timezone: "UTC"},
	})
	for _, c := range []struct {
		now  string
		want int
		why  string
	}{
		{"2026-01-05T06:59:59Z", 1, ""}, // Monday, 7:59:59 in Berlin
		{"2026-01-05T07:00:00Z", 4, `"0 8 * * 1-5" for 10h (Europe/Berlin)`},
		{"2026-01-05T12:30:00Z", 4, "0 8"}, // a smaller rule changes nothing
		{"2026-01-05T16:59:59Z", 4, "0 8"},
		{"2026-01-05T17:00:00Z", 1, ""},
		{"2026-07-06T06:00:00Z", 4, "0 8"}, // summer time
		{"2026-07-06T16:00:00Z", 1, ""},
		{"2026-01-04T10:00:00Z", 1, ""},      // Sunday
		{"2026-01-05T00:15:00Z", 6, "30 23"}, // begun yesterday; never above max
		{"2026-01-04T12:30:00Z", 2, "0 12"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		n, why := s.raise(1, 6, now)
		if n != c.want || (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %d, %q; want %d, %q", c.now, n, why, c.want, c.why)
		}
	}
}

// Where the clocks are put forward a rule of the hour that is left out holds all the same, for all of its time; where they are put back, once.
func TestScheduleAndSummerTime(t *testing.T) {
	s := newSchedule([]ScheduleRule{{Cron: "30 2 * * *", For: time.Hour, Min: 3, Timezone: "Europe/Berlin"}})
	for _, c := range []struct {
		from string // in UTC, the time between 1:00 and 5:00 in Berlin, five minutes a sign
		want string
	}{
		{"2026-03-28T00:00:00Z", "..................############.................."},
		{"2026-03-29T00:00:00Z", "..................############.................."}, // 1:00 to 6:00
		{"2026-10-25T00:00:00Z", "......############.............................."}, // 2:00 to 5:00
	} {
		from, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i := range len(c.want) {
			if n, _ := s.raise(1, 5, from.Add(time.Duration(i)*5*time.Minute)); n == 3 {
				got += "#"
			} else {
				got += "."
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, not %s", c.from, got, c.want)
		}
	}
}

// It does not matter in which order the clock shows its times, nor how far apart.
func TestScheduleForgetsNothing(t *testing.T) {
	s := newSchedule([]ScheduleRule{{Cron: "0 8 * * *", For: time.Hour, Min: 3, Timezone: "UTC"}})
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []struct {
		hours float64
		want  int
	}{{8.5, 3}, {7.5, 1}, {8.5, 3}, {24 * 400, 1}, {24*400 + 8, 3}, {9, 1}, {8, 3}} {
		if n, _ := s.raise(1, 5, day.Add(time.Duration(at.hours*float64(time.Hour)))); n != at.want {
			t.Errorf("after %v hours: %d, want %d", at.hours, n, at.want)
		}
	}
}

func TestParseCron(t *testing.T) {
	for _, text := range []string{"", "0 8 * *", "0 8 * * 1-5 2026", "60 8 * * *", "@every 1h", "TZ=0", "0 0 30 2 *"} {
		if _, err := ParseCron(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	for text, same := range map[string]string{"0 8 * * 7": "0 8 * * 0", "0 8 * * 5-7": "0 8 * * 5,6,0", "0 8 * * 1,6-7": "0 8 * * 1,6,0"} {
		one, err1 := ParseCron(text)
		two, err2 := ParseCron(same)
		if err1 != nil || err2 != nil || !reflect.DeepEqual(one, two) {
			t.Errorf("%q is not %q: %v", text, same, err1)
		}
	}
	for _, name := range []string{"", "Local", "Europe/Nowhere"} {
		if _, err := ParseTimezone(name); err == nil {
			t.Errorf("time zone %q is taken", name)
		}
	}
}

// The loop starts what a rule asks for when it begins to hold, says which, and lets go of it after.
func TestLoopFollowsTheSchedule(t *testing.T) {
	cfg := demoConfig()
	// The bubble's clock begins at midnight UTC, 2000-01-01.
	cfg.Schedule = []ScheduleRule{{Cron: "5 0 * * *", For: 10 * time.Minute, Min: 3, Timezone: "UTC"}}
	inBubble(t, cfg, nil, func(b *bench) {
		b.pass(4 * time.Minute)
		if s := b.loop.Status(); s.Ready != 1 || s.Min != 1 || s.Schedule != "" {
			t.Fatalf("before: %+v", s)
		}
		b.until("raised", 2*time.Minute, func(s Status) bool {
			return s.Ready == 3 && s.Min == 3 && strings.Contains(s.Schedule, `"5 0 * * *" for 10m`)
		})
		b.pass(7 * time.Minute)
		if s := b.loop.Status(); s.Ready != 3 {
			t.Errorf("meanwhile: %+v", s)
		}
		b.until("over", 10*time.Minute, func(s Status) bool { return s.Ready == 1 && s.Min == 1 && s.Schedule == "" })
	})
}
