package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/api"
)

// decode reads a request's body into r, strictly: a misspelt field must not
// pass for its default. No body is an empty object. Not ok: the request was
// answered.
func (s *Server) decode(c *gin.Context, r any) bool {
	rc := http.NewResponseController(c.Writer)
	rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, api.MaxBody))
	rc.SetReadDeadline(time.Time{})
	if err != nil {
		if big := (*http.MaxBytesError)(nil); errors.As(err, &big) {
			fail(c, http.StatusRequestEntityTooLarge, "The body is larger than %d bytes.", big.Limit)
			return false
		}
		fail(c, http.StatusBadRequest, "The body could not be read: %v.", err)
		return false
	}
	if len(strings.TrimSpace(string(body))) == 0 {
		return true
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		fail(c, http.StatusBadRequest, "%s", wrongJSON(err, r))
		return false
	}
	if _, err := dec.Token(); err != io.EOF {
		fail(c, http.StatusBadRequest, "The body goes on after its JSON object.")
		return false
	}
	return true
}

// wrongJSON says what is wrong with a body in the words of the API.
func wrongJSON(err error, r any) string {
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		known := fields(r)
		if len(known) == 0 {
			return "There is no field " + name + "; this takes no body."
		}
		return "There is no field " + name + "; there are " + list(known) + "."
	}
	if t := (*json.UnmarshalTypeError)(nil); errors.As(err, &t) && t.Field != "" {
		return t.Field + " cannot be a " + t.Value + "."
	}
	return "The body is not the JSON that is wanted: " + strings.TrimPrefix(err.Error(), "json: ") + "."
}

// fields are the names that a request knows.
func fields(r any) (names []string) {
	for f := range reflect.TypeOf(r).Elem().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
