package api

import (
	"context"
	"net/http"
	"time"
)

// PageRequest asks for the live page.
type PageRequest struct {
	Act bool `json:"act,omitempty"` // to change from there, too; for those who may change
}

// Page is where the live page is.
type Page struct {
	URL   string    `json:"url"`   // for one use: it has a token in it
	Until time.Time `json:"until"` // when that is too late
}

// Page asks where the live page is, and has the master serve it.
func (c *Client) Page(ctx context.Context, r PageRequest) (p Page, err error) {
	return p, c.ask(ctx, http.MethodPost, "/v1/page", r, &p)
}
