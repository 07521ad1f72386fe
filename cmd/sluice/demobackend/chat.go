package demobackend

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/valyala/fasthttp"
)

// chatRequest is what is read of an OpenAI chat completion request.
type chatRequest struct {
	Model     string `json:"model"`
	Stream    bool   `json:"stream"`
	MaxTokens int    `json:"max_tokens"`
	Messages  []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
}

type chatMessage struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
}

type chatChoice struct {
	Index        int          `json:"index"`
	Message      *chatMessage `json:"message,omitempty"`
	Delta        *chatMessage `json:"delta,omitempty"`
	FinishReason *string      `json:"finish_reason"`
}

type chatUsage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

type chatResponse struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   *chatUsage   `json:"usage,omitempty"`
}

// maxTokens bounds what a request may ask for.
const maxTokens = 100_000

// maxPrompt bounds the size of a chat request in bytes.
const maxPrompt = 8 << 20

var stop = "stop"

// chat answers POST /v1/chat/completions. Without streaming the whole answer takes the service time; a stream
// takes the token time per token. The slot is held to the end of the stream.
func (s *server) chat(ctx *fasthttp.RequestCtx) {
	if !ctx.IsPost() {
		ctx.Error("want POST\n", fasthttp.StatusMethodNotAllowed)
		ctx.Response.Header.Set("Allow", "POST")
		return
	}
	var req chatRequest
	body, err := io.ReadAll(io.LimitReader(requestBody(ctx), maxPrompt))
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	if err != nil {
		ctx.Error("bad chat request: "+err.Error()+"\n", fasthttp.StatusBadRequest)
		return
	}
	if req.Model == "" {
		req.Model = "demo"
	}
	n := s.opts.tokens
	if req.MaxTokens > 0 {
		n = min(req.MaxTokens, maxTokens)
	}
	resp := chatResponse{
		ID: fmt.Sprintf("chatcmpl-%s-%d", s.opts.id, s.received.Load()), Object: "chat.completion",
		Created: time.Now().Unix(), Model: req.Model,
	}
	if !req.Stream {
		s.work(ctx, s.serviceTime(), func(ctx *fasthttp.RequestCtx) bool {
			text := make([]byte, 0, 8*n)
			for i := range n {
				text = append(text, token(i)...)
			}
			prompt := len(body) / 4
			resp.Choices = []chatChoice{{Message: &chatMessage{Role: "assistant", Content: string(text)}, FinishReason: &stop}}
			resp.Usage = &chatUsage{Prompt: prompt, Completion: n, Total: prompt + n}
			answerJSON(ctx, resp)
			return false
		})
		return
	}
	s.work(ctx, 0, func(ctx *fasthttp.RequestCtx) bool {
		resp.Object = "chat.completion.chunk"
		ctx.SetContentType("text/event-stream")
		ctx.Response.Header.Set("Cache-Control", "no-cache")
		ctx.Response.ImmediateHeaderFlush = true
		c, _ := ctx.Conn().(*conn)
		ctx.SetBodyStreamWriter(func(w *bufio.Writer) { s.release(s.streamTokens(w, c, resp, n)) })
		return true
	})
}

// streamTokens writes one event per token; false when the client left.
func (s *server) streamTokens(w *bufio.Writer, c *conn, resp chatResponse, n int) bool {
	tick := time.NewTicker(max(s.opts.tokenTime, time.Microsecond))
	defer tick.Stop()
	for i := range n + 1 {
		resp.Choices = []chatChoice{{Delta: &chatMessage{Content: token(i)}}}
		if i == 0 {
			resp.Choices[0].Delta.Role = "assistant"
		}
		if i == n {
			resp.Choices[0].Delta = &chatMessage{}
			resp.Choices[0].FinishReason = &stop
		} else {
			select {
			case <-tick.C:
			case <-s.cut:
				return false
			}
		}
		b, err := json.Marshal(resp)
		if err != nil {
			return false
		}
		fmt.Fprintf(w, "data: %s\n\n", b)
		if w.Flush() != nil || c != nil && c.left() {
			return false
		}
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
	return w.Flush() == nil
}

func token(i int) string { return fmt.Sprintf("token%d ", i) }

func (s *server) models(ctx *fasthttp.RequestCtx) {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	answerJSON(ctx, struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", []model{{ID: "demo", Object: "model", Created: s.started.Unix(), OwnedBy: "sluice"}}})
}
