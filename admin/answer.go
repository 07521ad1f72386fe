package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/valyala/fasthttp"
)

// failure is an answer that is not what was asked for.
type failure struct {
	status int
	// Reason is a short code, stable for programs; Error says the same in words.
	Reason string `json:"reason"`
	Error  string `json:"error"`
}

func fail(status int, reason, format string, args ...any) *failure {
	return &failure{status, reason, fmt.Sprintf(format, args...)}
}

func (f *failure) write(ctx *fasthttp.RequestCtx) {
	writeJSON(ctx, f.status, f)
}

// writeJSON sends v, indented: people read these answers with curl.
func writeJSON(ctx *fasthttp.RequestCtx, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		status = fasthttp.StatusInternalServerError
		b.Reset()
		fmt.Fprintf(&b, "{\"reason\": \"internal\", \"error\": %q}\n", err.Error())
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.SetBody(b.Bytes())
}

func writeText(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString(text)
}

// readJSON decodes the request's body, which must be one JSON value without unknown fields.
func readJSON(ctx *fasthttp.RequestCtx, v any) *failure {
	dec := json.NewDecoder(bytes.NewReader(ctx.PostBody()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if err == io.EOF {
			return fail(fasthttp.StatusBadRequest, "bad_request", "the body is empty: a JSON object is needed")
		}
		return fail(fasthttp.StatusBadRequest, "bad_request", "the body is not what was expected: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fail(fasthttp.StatusBadRequest, "bad_request", "the body goes on after the JSON object")
	}
	return nil
}
