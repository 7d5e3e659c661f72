// Package systemd tries masterd and its units under a real systemd: the host's
// own, booted anew for each test in namespaces of its own (see box), as root.
// Where that cannot be had the tests are skipped and say why; -systemd.must
// makes that a failure.
package systemd
