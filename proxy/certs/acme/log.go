package acme

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger gives what certmagic logs to log. What it does step by step is for debugging. So is every failure to get a certificate: that is told
// by its events, once and with the authority's words (account.event).
func logger(log *slog.Logger) *zap.Logger { return zap.New(&core{log: log}) }

// core is a zapcore.Core on a slog.Logger.
type core struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// told are the loggers whose failures are told by events.
var told = []string{"obtain", "renew", "acme_client", "acme_client.acme_client", "handshake"}

// asked is what is said of a client that asks for a challenge's certificate where there is no challenge. Anybody may.
const asked = "tls-alpn challenge"

func level(e zapcore.Entry) slog.Level {
	switch {
	case e.Level < zapcore.WarnLevel || slices.Contains(told, e.LoggerName) || e.Message == asked:
		return slog.LevelDebug
	case e.Level == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}

func (c *core) Enabled(l zapcore.Level) bool {
	return l >= zapcore.WarnLevel || c.log.Enabled(context.Background(), slog.LevelDebug)
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.log, slices.Concat(c.fields, fields)}
}

func (c *core) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.log.Enabled(context.Background(), level(e)) {
		return to.AddCore(e, c)
	}
	return to
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	at, all := level(e), zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType && errors.Is(err, context.Canceled) {
			at = slog.LevelDebug // the host, or all of it, is no longer wanted
		}
		f.AddTo(all)
	}
	attrs := make([]slog.Attr, 0, len(all.Fields))
	for _, name := range slices.Sorted(maps.Keys(all.Fields)) {
		attrs = append(attrs, slog.Any(name, all.Fields[name]))
	}
	c.log.LogAttrs(context.Background(), at, e.Message, attrs...)
	return nil
}

func (c *core) Sync() error { return nil }
