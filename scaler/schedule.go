package scaler

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a container image has no time zones of its own

	"github.com/robfig/cron/v3"
)

// ScheduleRule raises min at times that are known beforehand.
type ScheduleRule struct {
	// Cron is when it begins to hold: minute, hour, day of month, month and day of week (0 and 7 are Sunday), as in
	// crontab(5). Required.
	Cron string `toml:"cron"`
	// For is how long it holds each time, from 1m to 8784h; required. Replicas need their start time: let it begin earlier.
	For time.Duration `toml:"for"`
	// Min is the least number of replicas meanwhile: above the min of scale, which would hold anyway, and at most max.
	// Required.
	Min int `toml:"min"`
	// Timezone that Cron is read in, by its IANA name; default "UTC".
	Timezone string `toml:"timezone"`
}

// SetDefaults is called by the decoder before a table of this type is read.
func (r *ScheduleRule) SetDefaults() { r.Timezone = "UTC" }

// cronFields are the five of crontab(5): no seconds, and no "@every", which would depend on when sluice was started.
var cronFields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// ParseCron reads the five fields; an error says which of them is wrong.
func ParseCron(text string) (cron.Schedule, error) {
	if strings.Contains(text, "TZ=") {
		return nil, errors.New("the time zone is a key of its own: timezone")
	}
	s, err := cronFields.Parse(sundays(text))
	if err != nil {
		return nil, fmt.Errorf("%q is no cron expression: %w", text, err)
	}
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q never comes", text)
	}
	return s, nil
}

// sundays writes the 7 of crontab(5) as 0, also at the end of a range.
func sundays(text string) string {
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return text
	}
	days := strings.Split(fields[4], ",")
	for i, day := range days {
		if day == "7" {
			days[i] = "0"
		} else if from, ok := strings.CutSuffix(day, "-7"); ok {
			days[i] = from + "-6,0"
		}
	}
	fields[4] = strings.Join(days, ",")
	return strings.Join(fields, " ")
}

// ParseTimezone finds an IANA time zone. The machine's own, "Local", is none: the same file means the same everywhere.
func ParseTimezone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("%q is no name of a time zone, as \"Europe/Berlin\"", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is no name of a time zone, as \"Europe/Berlin\"", name)
	}
	return zone, nil
}

// schedule is the rules of a configuration, ready to be asked.
type schedule []scheduled

type scheduled struct {
	rule ScheduleRule
	cron cron.Schedule
	zone *time.Location
}

// newSchedule leaves out rules that make no sense: the configuration was checked.
func newSchedule(rules []ScheduleRule) schedule {
	var s schedule
	for _, r := range rules {
		c, err := ParseCron(r.Cron)
		zone, zoneErr := ParseTimezone(r.Timezone)
		if err == nil && zoneErr == nil {
			s = append(s, scheduled{r, c, zone})
		}
	}
	return s
}

// holds reports whether the rule has begun within the time that it holds for. It depends on nothing but now: a clock
// that jumps, a restart and a reload need no care. Cron is asked about the clock on the wall, which knows no summer time: a time that is left
// out in spring counts as the same number of hours after midnight, and one that comes twice in autumn is the first.
func (r scheduled) holds(now time.Time) bool {
	since := now.Add(-r.rule.For)
	y, m, d := since.In(r.zone).Date()
	h, min, s := since.In(r.zone).Clock()
	for at := time.Date(y, m, d, h, min, s, 0, time.UTC).Add(-clockChange); ; {
		if at = r.cron.Next(at); at.IsZero() {
			return false
		}
		begun := time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), 0, r.zone)
		if first := begun.Add(-time.Hour); first.Hour() == begun.Hour() {
			begun = first
		}
		if begun.After(since) {
			return !begun.After(now)
		}
	}
}

// clockChange is more than any clock is put forward or back.
const clockChange = 2 * time.Hour

// raise is the least number of replicas at a time, from least to most, and the rule that makes it so; "" when none does.
func (s schedule) raise(least, most int, now time.Time) (n int, why string) {
	n = least
	for _, r := range s {
		if m := min(r.rule.Min, most); m > n && r.holds(now) {
			n, why = m, fmt.Sprintf("min %d by the schedule %q for %s (%s)", m, r.rule.Cron, span(r.rule.For), r.rule.Timezone)
		}
	}
	return n, why
}

// span is d without the units that are zero: 10h instead of 10h0m0s.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
