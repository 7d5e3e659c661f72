package state

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// envHold makes the test binary a process that takes a lock and waits.
const envHold = "MASTERD_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envHold); dir != "" {
		if _, err := Acquire(dir, "shop"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // until killed
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	lock, err := Acquire(dir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(dir, "shop") // a second master in one process, too
	var held *HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() || held.File != filepath.Join(dir, "lock") {
		t.Fatalf("%v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	lock, err = Acquire(dir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	info, err := os.Stat(filepath.Join(dir, "lock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// Death gives the lock back, however it comes.
func TestLockOfAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), envHold+"="+dir)
	stdin, _ := other.StdinPipe()
	defer stdin.Close()
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "held\n" {
		t.Fatalf("the other process said %q", line)
	}
	_, err = Acquire(dir, "shop")
	var held *HeldError
	if !errors.As(err, &held) || held.PID != other.Process.Pid || !strings.Contains(held.Command, filepath.Base(os.Args[0])) {
		t.Errorf("%v", err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	lock, err := Acquire(dir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

// What the file says is believed only of the process that wrote it.
func TestHolderThatCannotBeKnown(t *testing.T) {
	dir := t.TempDir()
	lock, err := Acquire(dir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for _, text := range []string{"", "x", "-1 5 shop\n", "99999999 1 shop\n", fmt.Sprintf("%d 1 shop\n", os.Getpid()), strings.Repeat("9", 9000)} {
		if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Acquire(dir, "shop")
		var held *HeldError
		if !errors.As(err, &held) || held.PID != 0 || held.Command != "" {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestLockIsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("mine"), 0o600), os.Symlink(victim, filepath.Join(dir, "lock"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(dir, "shop"); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("%v", err)
	}
	if text, _ := os.ReadFile(victim); string(text) != "mine" {
		t.Errorf("the target says %q", text)
	}
	if _, err := Acquire(filepath.Join(dir, "none"), "shop"); err == nil {
		t.Error("locked in a directory that is not there")
	}
}

// The lock of a master is not another one's because somebody has removed the file.
func TestLockIsTakenAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	lock, err := Acquire(dir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if mended, err := lock.Mend(); mended || err != nil {
		t.Fatalf("nothing was removed: %v, %v", mended, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if mended, err := lock.Mend(); !mended || err != nil {
		t.Fatalf("%v, %v", mended, err)
	}
	var held *HeldError
	if _, err := Acquire(dir, "shop"); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("another master: %v", err)
	}
	// One that was quicker has it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := Acquire(dir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if mended, err := lock.Mend(); mended || !errors.As(err, &held) {
		t.Errorf("%v, %v", mended, err)
	}
}
