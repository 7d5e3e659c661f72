package ginworker

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/gin-gonic/gin"
)

// pattern is what a worker sees of a request when the engine has answered it.
func pattern(h http.Handler, method, path string) string {
	r := httptest.NewRequest(method, path, nil)
	h.ServeHTTP(httptest.NewRecorder(), r)
	return r.Pattern
}

func TestRoutesAreNamed(t *testing.T) {
	ours := New()
	gin.SetMode(gin.ReleaseMode)
	plain := gin.New()
	plain.Use(Routes())
	for name, r := range map[string]*gin.Engine{"New": ours, "gin.New": plain} {
		r.Use(func(c *gin.Context) { // as tracing does
			c.Request = c.Request.WithContext(c.Request.Context())
		})
		r.HandleMethodNotAllowed = true
		g := r.Group("/v1")
		g.GET("/users/:id", func(c *gin.Context) {})
		g.DELETE("/users/:id", func(c *gin.Context) {})
		r.GET("/files/*path", func(c *gin.Context) { c.AbortWithStatus(http.StatusForbidden) })
		mux := http.NewServeMux()
		mux.HandleFunc("GET /inner/{id}", func(http.ResponseWriter, *http.Request) {})
		r.Any("/any", gin.WrapH(mux))
		for ask, want := range map[[2]string]string{
			{"GET", "/v1/users/17"}:    "GET /v1/users/:id",
			{"DELETE", "/v1/users/17"}: "DELETE /v1/users/:id",
			{"GET", "/files/a/b"}:      "GET /files/*path",
			{"PUT", "/any"}:            "PUT /any",
			{"GET", "/nowhere"}:        "",
			{"POST", "/v1/users/17"}:   "",
			{"GET", "/v1/users/"}:      "",
		} {
			if got := pattern(r, ask[0], ask[1]); got != want {
				t.Errorf("%s: %v is %q, wanted %q", name, ask, got, want)
			}
		}
	}
}

// Many at a time, the first of each route too.
func TestRoutesAreNamedForAllGoroutines(t *testing.T) {
	r := New()
	const routes = 50
	for n := range routes {
		r.GET(fmt.Sprintf("/r%d/:id", n), func(*gin.Context) {})
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range routes {
				if got, want := pattern(r, "GET", fmt.Sprintf("/r%d/x", n)), fmt.Sprintf("GET /r%d/:id", n); got != want {
					t.Errorf("%q, wanted %q", got, want)
				}
			}
		}()
	}
	wg.Wait()
}

func TestNamesOfRoutesAreBounded(t *testing.T) {
	var p patterns
	p.known.Store(&map[route]string{})
	for n := range 2 * maxPatterns {
		p.of(route{"GET", fmt.Sprint(n)})
	}
	if n := len(*p.known.Load()); n != maxPatterns {
		t.Errorf("%d names are kept", n)
	}
	if p.of(route{"GET", "0"}) != "GET 0" || p.of(route{"GET", "one too many"}) != "" {
		t.Error("the first should have names, and what follows none")
	}
}

func TestNamingARouteAllocatesNothing(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	with, without := gin.New(), gin.New()
	with.Use(Routes())
	measure := func(r *gin.Engine) float64 {
		r.GET("/users/:id", func(*gin.Context) {})
		req, w := httptest.NewRequest("GET", "/users/17", nil), httptest.NewRecorder()
		return testing.AllocsPerRun(1000, func() { r.ServeHTTP(w, req) })
	}
	if a, b := measure(with), measure(without); a != b {
		t.Errorf("%v allocations, without it %v", a, b)
	}
}
