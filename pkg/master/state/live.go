package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/rollout"
)

const (
	liveSchema   = 1
	liveName     = "live.json"
	liveConfig   = "config-" // and the digest of a configuration
	maxLive      = 4 << 20   // bytes; 2,000 workers need less than one
	maxConfig    = 1 << 20
	maxCounters  = 16 << 20
	countersName = "counters.json"
	// reserved is what live.json, and the next configuration beside it, have in any
	// case, in bytes: a worker, or whoever else is in the file system, may fill it.
	reserved = 64 << 10
)

func liveFile(dir string) atomicfile.Reserved {
	return atomicfile.Reserved{Spare: filepath.Join(dir, liveName), Size: reserved, Pad: ' '}
}

func configFile(dir string) atomicfile.Reserved {
	return atomicfile.Reserved{Spare: filepath.Join(dir, "config"), Size: reserved}
}

// countersFile reserves nothing that it has not needed before: it is what a full disk may cost.
func countersFile(dir string) atomicfile.Reserved {
	return atomicfile.Reserved{Spare: filepath.Join(dir, countersName), Pad: ' '}
}

// Live is what a master leaves, while it lives, for the next one: who runs, and
// as what. It lies in the runtime directory and goes with the host's boot, as
// the processes do. There are no secrets in it.
type Live struct {
	Schema      int              `json:"schema"`
	Boot        string           `json:"boot"`    // the kernel's id of this boot
	Masterd     string           `json:"masterd"` // who wrote it, for people
	Slots       int              `json:"slots"`   // of each listener
	Machine     rollout.Snapshot `json:"machine"`
	Configs     []LiveConfig     `json:"configs"`
	Generations []LiveGeneration `json:"generations"`
	Workers     []LiveWorker     `json:"workers"`
	Active      LiveDeployment   `json:"active"`
	Revision    uint64           `json:"revision,omitempty"`   // of what workers have kept, the last one
	Cgroup      string           `json:"cgroup,omitempty"`     // the directory of the service's, with those of its workers in it
	Cgroups     []string         `json:"cgroups,omitempty"`    // that, what the paths of scopes begin with, and those of earlier masters in which workers may be; none: see Cgroup
	PID         int              `json:"pid,omitempty"`        // of the master that wrote it
	Comparison  json.RawMessage  `json:"comparison,omitempty"` // of the rollout under way; its own package reads it
	Upgrade     *LiveUpgrade     `json:"upgrade,omitempty"`    // another masterd takes its place, or has done so just now
}

// AllCgroups are the cgroups in which workers may be. A masterd that knew one only has
// written that.
func (l *Live) AllCgroups() []string {
	if len(l.Cgroups) > 0 || l.Cgroup == "" {
		return l.Cgroups
	}
	return []string{l.Cgroup}
}

// LiveUpgrade is who wanted another masterd, and why. It stays until that one has
// proved itself, so that whoever is master then can say how it ended.
type LiveUpgrade struct {
	By      string `json:"by"`
	Why     string `json:"why,omitempty"`
	From    string `json:"from"`              // masterd's version before
	Program string `json:"program,omitempty"` // that takes over; empty: one that waits
	Taken   bool   `json:"taken,omitempty"`   // it has taken over, and has not proved itself yet
}

// LiveConfig is the source of a configuration that some generation runs with.
// Its text lies beside, in a file of its own.
type LiveConfig struct {
	Digest  string `json:"digest"`            // of the text
	Program string `json:"program,omitempty"` // what runs: a reload may have named another than is configured
}

// LiveGeneration is what the master knows of a generation and the machine does not.
type LiveGeneration struct {
	ID     uint64 `json:"id"`
	Config int    `json:"config"` // index into Configs
	// one more than the index of the configuration that it was made of, which is the service's own;
	// the same where it was not made. 0: a masterd wrote this that did not make any
	Base      int    `json:"base,omitempty"`
	Version   string `json:"version"` // in the version store
	By        string `json:"by,omitempty"`
	Why       string `json:"why,omitempty"`
	Rollout   uint64 `json:"rollout"`
	Activated bool   `json:"activated,omitempty"`
	Vetted    bool   `json:"vetted,omitempty"` // who could exchange its files of variables was looked at; an earlier masterd did not
}

// LiveWorker is what the master knows of a worker and the machine does not.
type LiveWorker struct {
	ID         uint64    `json:"id"`
	Generation uint64    `json:"generation"`
	Slot       int       `json:"slot"`
	PID        int       `json:"pid,omitempty"`         // zero: it is just being started
	Begun      string    `json:"begun,omitempty"`       // the process's start, in the kernel's own unit
	Secret     string    `json:"secret,omitempty"`      // the SHA-256 of its secret
	SecretNext string    `json:"secret_next,omitempty"` // and of the one that it was sent, and may have by now
	Renewed    bool      `json:"renewed,omitempty"`     // its secret was sent to it: it was in no environment
	Protocol   int       `json:"protocol,omitempty"`    // version that it speaks
	UID        int       `json:"uid"`
	Started    time.Time `json:"started"`
	Handed     bool      `json:"handed,omitempty"`
	Paused     bool      `json:"paused,omitempty"`
	Leaving    bool      `json:"leaving,omitempty"`
	Announced  bool      `json:"announced,omitempty"`
	Stopped    bool      `json:"stopped,omitempty"`
	ParkedAt   uint64    `json:"parked_at,omitempty"`
	Works      bool      `json:"works,omitempty"`      // its background work may be running
	WorksUntil time.Time `json:"works_until,omitzero"` // it was told to end that, at this time
	WorkWaits  bool      `json:"work_waits,omitempty"`

	// Of kinds other than sdk.
	Group     int      `json:"group,omitempty"`      // that PID is in, where it does not lead one
	Asked     bool     `json:"asked,omitempty"`      // was sent a signal that has it end
	SaysReady bool     `json:"says_ready,omitempty"` // by sd_notify
	Says      string   `json:"says,omitempty"`       // its last STATUS
	Errno     int      `json:"errno,omitempty"`      // its last ERRNO
	Bound     []string `json:"bound,omitempty"`      // listeners that it has come to listen on
	// NotifyAccess is its own last NOTIFYACCESS; empty: it has said none.
	NotifyAccess string `json:"notify_access,omitempty"`
}

// LiveDeployment is who brought what serves.
type LiveDeployment struct {
	Generation uint64    `json:"generation"`
	Since      time.Time `json:"since,omitzero"`
	By         string    `json:"by,omitempty"`
	Why        string    `json:"why,omitempty"`
}

// Encode is its form on disk.
func (l Live) Encode() ([]byte, error) {
	l.Schema = liveSchema
	return json.Marshal(l)
}

// KeepLive writes what Encode made. It is for the death of a process and not of
// the host: nothing is synced to the disk.
func KeepLive(dir string, encoded []byte) error {
	return liveFile(dir).Replace(filepath.Join(dir, liveName), encoded, 0o600)
}

// KeepConfig writes a configuration's text beside it, under its digest.
func KeepConfig(dir, digest string, text []byte) error {
	path := filepath.Join(dir, liveConfig+digest+".yaml")
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return configFile(dir).Replace(path, text, 0o600)
}

// LoadConfig reads one back.
func LoadConfig(dir, digest string) ([]byte, error) {
	if len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%q is no digest", digest)
	}
	text, err := atomicfile.Read(filepath.Join(dir, liveConfig+digest+".yaml"), maxConfig)
	if err == nil && Digest(text) != digest {
		err = fmt.Errorf("the configuration kept as %s has changed", digest)
	}
	return text, err
}

// Digest names a configuration.
func Digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// LoadLive reads what the last master has left. None, or one of an earlier boot,
// is nil and no error.
func LoadLive(dir, boot string) (*Live, error) {
	path := filepath.Join(dir, liveName)
	text, err := atomicfile.ReadReserved(path, maxLive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var head struct {
		Schema int    `json:"schema"`
		Boot   string `json:"boot"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	switch {
	case head.Boot != boot:
		return nil, nil
	case head.Schema > liveSchema:
		return nil, &NewerError{File: path, Schema: head.Schema, Known: liveSchema, Advice: "have it stop the service first: its workers run"}
	}
	var l Live
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return &l, nil
}

// DropLive: the service has stopped, and nobody is to be taken over. What names the
// configurations goes before them.
func DropLive(dir string) error {
	if err := os.Remove(filepath.Join(dir, liveName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(DropConfigs(dir, nil), liveFile(dir).Drop(), configFile(dir).Drop(), DropCounters(dir))
}

// DropConfigs removes the configurations that are not needed any more. It must not
// be called before live.json has stopped to name them.
func DropConfigs(dir string, needed []LiveConfig) error {
	all, err := filepath.Glob(filepath.Join(dir, liveConfig+"*.yaml"))
	for _, path := range all {
		if slices.ContainsFunc(needed, func(c LiveConfig) bool { return filepath.Base(path) == liveConfig+c.Digest+".yaml" }) {
			continue
		}
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// KeepCounters writes what the service has counted, as KeepLive does. It may be called beside
// KeepLive.
func KeepCounters(dir string, encoded []byte) error {
	if len(encoded) > maxCounters {
		return fmt.Errorf("write %s: it has %d bytes, at most %d can be read again", countersName, len(encoded), maxCounters)
	}
	return countersFile(dir).Replace(filepath.Join(dir, countersName), encoded, 0o600)
}

// LoadCounters reads what the last master has counted. None is nil and no error.
func LoadCounters(dir string) ([]byte, error) {
	text, err := atomicfile.ReadReserved(filepath.Join(dir, countersName), maxCounters)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// DropCounters removes it: counting begins anew.
func DropCounters(dir string) error {
	err := os.Remove(filepath.Join(dir, countersName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, countersFile(dir).Drop())
}

// Boot is the kernel's id of this boot; empty where it has none.
func Boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
