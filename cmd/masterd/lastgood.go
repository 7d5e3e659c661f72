package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/config"
)

// maxConfig is the longest configuration file that is kept, in bytes.
const maxConfig = 1 << 20

// lastGood keeps a copy of the configuration that was last taken into force. It
// cannot lie in state_dir: where that is, only a configuration that can be
// read would tell. So it lies in the directory that systemd gives the unit
// ($STATE_DIRECTORY), else in that of all of the user's services, named after
// the configuration file's path.
type lastGood struct{ file, path string }

func newLastGood(file string, env []string) lastGood {
	dir := config.SystemHost(env).StateBase()
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "STATE_DIRECTORY="); ok && v != "" {
			dir, _, _ = strings.Cut(v, ":")
		}
	}
	name := sha256.Sum256([]byte(file))
	return lastGood{file, filepath.Join(dir, "last-good-"+hex.EncodeToString(name[:8])+".yaml")}
}

func (l lastGood) save(c *config.Config) error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o711); err != nil {
		return fmt.Errorf("keeping the last good configuration: %w", err)
	}
	if err := atomicfile.Write(l.path, c.Source(), 0o600); err != nil {
		return fmt.Errorf("keeping the last good configuration: %w", err)
	}
	return nil
}

// load reads it as if it lay where the configuration file is: paths in it are
// relative to that.
func (l lastGood) load(env []string) (*config.Config, error) {
	b, err := atomicfile.Read(l.path, maxConfig)
	if err != nil {
		return nil, err
	}
	c, err := config.Parse(l.file, b, env, config.SystemHost(env))
	if err != nil {
		return nil, fmt.Errorf("the last good configuration, %s: %w", l.path, err)
	}
	return c, nil
}
