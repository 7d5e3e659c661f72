package page

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"
)

const (
	maxTokens    = 16 // that wait for their one use; the oldest goes for one more
	maxSessions  = 32 // the oldest goes for one more, with its streams
	tokenLives   = 2 * time.Minute
	sessionLives = 12 * time.Hour
)

// passes are who may come in: tokens, each for one use, and the sessions that these have become.
type passes struct {
	life context.Context // of all sessions

	mu       sync.Mutex
	tokens   []token    // oldest first
	sessions []*session // oldest first
	last     time.Time  // when somebody was last seen
	streams  int
}

type token struct {
	secret string
	person Person
	act    bool
	until  time.Time
}

// session is a browser that has brought a token.
type session struct {
	secret string // its cookie
	key    string // of what the page asks for: see key in routes.go
	person Person
	act    bool // it may change what its person may
	life   context.Context
	end    context.CancelFunc
}

// mayChange is what this session may do now: its person's groups may have changed.
func (s *session) mayChange() bool {
	_, change := s.person.May()
	return s.act && change
}

func newPasses(life context.Context) *passes { return &passes{life: life, last: time.Now()} }

// issue makes a token.
func (p *passes) issue(who Person, act bool) (secret string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	t := token{rand.Text(), who, act, p.last.Add(tokenLives)}
	if len(p.tokens) >= maxTokens {
		p.tokens = p.tokens[1:]
	}
	p.tokens = append(p.tokens, t)
	return t.secret, t.until
}

// redeem makes a session of a token, which is used up by that. It takes as long for a wrong one.
func (p *passes) redeem(secret string) (*session, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, found := time.Now(), -1
	for i, t := range p.tokens {
		if same(t.secret, secret) && now.Before(t.until) {
			found = i
		}
	}
	if found < 0 {
		return nil, false
	}
	t := p.tokens[found]
	p.tokens = append(p.tokens[:found:found], p.tokens[found+1:]...)
	s := &session{secret: rand.Text(), key: rand.Text(), person: t.person, act: t.act}
	s.life, s.end = context.WithTimeout(p.life, sessionLives)
	if len(p.sessions) >= maxSessions {
		p.sessions[0].end()
		p.sessions = p.sessions[1:]
	}
	p.sessions = append(p.sessions, s)
	p.last = now
	return s, true
}

// session finds the one with a secret, and notes that it is used. nil: there is none, or its person
// may not look any more.
func (p *passes) session(secret string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found *session
	live := p.sessions[:0:0]
	for _, s := range p.sessions {
		if s.life.Err() != nil {
			continue
		}
		live = append(live, s)
		if same(s.secret, secret) {
			found = s
		}
	}
	p.sessions = live
	if found == nil {
		return nil
	}
	if look, _ := found.person.May(); !look {
		return nil
	}
	p.last = time.Now()
	return found
}

// stream counts one that begins, by 1, or ends, by -1, and returns how many there are.
func (p *passes) stream(by int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams += by
	p.last = time.Now()
	return p.streams
}

// used reports whether somebody looks, or did lately.
func (p *passes) used() bool { return p.idleIn() > 0 }

// idleIn is after what time nobody has looked for long enough, unless somebody does before.
func (p *passes) idleIn() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams > 0 {
		return unused
	}
	return unused - time.Since(p.last)
}

// same compares in a time that tells nothing.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
