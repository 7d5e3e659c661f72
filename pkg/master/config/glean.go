package config

import (
	"bytes"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// Glean finds what a configuration says of its service's name and directories
// though the whole cannot be read, line by line: what is wrong is mostly elsewhere.
// What it finds is a guess. Paths are absolute; what it does not find is empty.
func Glean(name string, data []byte) (service, runtimeDir, stateDir string) {
	abs := func(path string) string {
		if path != "" && !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(name), path)
		}
		return filepath.Clean(path)
	}
	if len(data) > maxFile {
		data = data[:maxFile]
	}
	for line := range bytes.Lines(data) {
		key, _, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		to := map[string]*string{"service": &service, "runtime_dir": &runtimeDir, "state_dir": &stateDir}[string(key)]
		if to == nil {
			continue
		}
		var one map[string]string
		if yaml.Unmarshal(line, &one) == nil && one[string(key)] != "" {
			*to = one[string(key)]
		}
	}
	if !matches("a-z0-9-", service) {
		service = ""
	}
	for _, dir := range []*string{&runtimeDir, &stateDir} {
		if *dir != "" {
			*dir = abs(*dir)
		}
	}
	return service, runtimeDir, stateDir
}
