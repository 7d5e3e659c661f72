package e2e

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// proposed types the command that status proposes first.
func proposed(t *testing.T, s *service.Service, code int, want string) string {
	t.Helper()
	var got []string
	if err := s.Wait(t.Context(), 10*time.Second, want+" to be proposed", func(st api.Status) bool {
		if got = nil; len(st.Next) > 0 {
			got = st.Next[0].Args
		}
		return strings.Join(got, " ") == want
	}); err != nil {
		t.Fatalf("%v; proposed was %q", err, got)
	}
	return cli(t, s, code, got...)
}

// Whoever is woken up types what status proposes, and it helps. Where a rollback leads is
// said before it is asked for, and there it leads.
func TestWhatStatusProposesHelps(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("rollout.bake", "2m") })
	cli(t, s, 0, "reload", "--label", "v1")
	cli(t, s, 0, "promote")
	leads := func(out, want string) {
		t.Helper()
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	// Three reloads within a bake: the baked one stays warm.
	for _, v := range []string{"v2", "v3", "v4"} {
		leads(cli(t, s, 0, "reload", "--label", v), "rollback: back to v1 (generation 2), warm, at once\n")
	}
	leads(cli(t, s, 0, "status"), "rollback  back to v1 (generation 2), warm, at once\n")
	cli(t, s, 0, "rollback")
	serves(t, s, "v1")

	// A confirm says when it goes back, and the proposal keeps it.
	leads(cli(t, s, 0, "reload", "--label", "v5", "--confirm", "1m"), "confirm: back to generation 2 in ")
	leads(cli(t, s, 0, "status"), "confirm   back to generation 2 in ")
	leads(proposed(t, s, 0, "promote"), "rollback: back to v1, which is started and checked first\n")
	wait(t, s, "v5 to be baked", func(st api.Status) bool { return st.Active.Version.Label == "v5" && st.Active.Baked })

	// Held: the proposal allows reloads again.
	cli(t, s, 0, "hold", "the database moves")
	proposed(t, s, 0, "unhold")
	cli(t, s, 1, "unhold")

	// What failed is still on disk, and the status says so until it is mended.
	s.Config.Set("worker.env.DEMO_EXIT", "3")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	cli(t, s, 1, "reload")
	page := cli(t, s, 0, "status")
	leads(page, "on disk is what failed ")
	if head, _, _ := strings.Cut(page, "LISTENER"); !strings.Contains(head, "  failed    ") || strings.Index(head, "  failed    ") > strings.Index(head, "  version   ") {
		t.Errorf("the failure is not what is seen first:\n%s", page)
	}
	leads(proposed(t, s, 0, "history"), "reload")

	// A file that cannot be used: the proposal names the place.
	s.Config.Set("servce", "x")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	leads(proposed(t, s, 2, "check --config "+s.File), "servce")
	delete(s.Config, "servce")
	s.Config.Set("worker.env", map[string]string{"DEMO_WORD": "other"})
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	cli(t, s, 0, "reload", "--label", "v6")

	// Rolled back: what is on disk is not proposed as if it were new.
	cli(t, s, 0, "rollback")
	serves(t, s, "v5")
	leads(cli(t, s, 0, "status"), "on disk is what was rolled back ")

	// It is tried again, and baking: the proposal ends the bake.
	cli(t, s, 0, "reload", "--label", "v6")
	proposed(t, s, 0, "promote")
	leads(cli(t, s, 0, "status"), "rollback  back to v5, which is started and checked first\n")
	cli(t, s, 0, "rollback")
	serves(t, s, "v5")
}

// typed types what status proposes that begins with a verb.
func typed(t *testing.T, s *service.Service, verb string) string {
	t.Helper()
	var args []string
	wait(t, s, verb+" to be proposed", func(st api.Status) bool {
		i := slices.IndexFunc(st.Next, func(n api.Next) bool { return n.Args[0] == verb })
		if i >= 0 {
			args = st.Next[i].Args
		}
		return i >= 0
	})
	return cli(t, s, 0, args...)
}

// The same in trouble: nothing serves, a worker fails or ends again and again, a rollout hangs.
func TestWhatStatusProposesInTrouble(t *testing.T) {
	t.Parallel()
	s := newService(t)
	fails := func(env ...string) {
		t.Helper()
		all := map[string]string{}
		for _, e := range env {
			name, value, _ := strings.Cut(e, "=")
			all[name] = value
		}
		s.Config.Set("worker.env", all)
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
	}
	fails("DEMO_EXIT=3", "DEMO_EXIT_MESSAGE=no-database")
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "the start to fail", func(st api.Status) bool { return st.State == "down" })
	if out := typed(t, s, "logs"); !strings.Contains(out, "no-database") {
		t.Errorf("the logs do not say why nothing serves:\n%s", out)
	}
	fails()
	typed(t, s, "reload")
	baked(t, s)

	fails("DEMO_UNHEALTHY_AFTER=1s")
	typed(t, s, "reload") // what is on disk now
	wait(t, s, "its checks to fail", func(st api.Status) bool { return st.State == "degraded" })
	typed(t, s, "logs")
	typed(t, s, "rollback")
	baked(t, s)

	fails("DEMO_HANG=1")
	cli(t, s, 0, "reload", "--detach")
	typed(t, s, "abort")
	wait(t, s, "the rollout to end", func(st api.Status) bool { return st.Rollout == nil && st.State == "serving" })
}

// The master is dead and nobody starts the next one: status finds the workers that serve on,
// and what it says to type takes them over.
func TestStatusWithoutMaster(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	out := cli(t, s, 3, "status")
	want := "one worker of demo (pid " + strconv.Itoa(pid) + ") still serves; the next master takes it over: `masterd run --config " + s.File + "`"
	if !strings.Contains(out, want) {
		t.Errorf("there is no %q in\n%s", want, out)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Worker(t.Context()); err != nil || again != pid {
		t.Errorf("worker %d serves after %d: %v", again, pid, err)
	}
	// A stop leaves nobody behind.
	cli(t, s, 0, "stop")
	if out := cli(t, s, 3, "status"); strings.Contains(out, "still serve") {
		t.Errorf("after a stop:\n%s", out)
	}
}
