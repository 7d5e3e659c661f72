package version

import (
	"debug/elf"
	"debug/macho"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Choice says how a source would be pinned.
type Choice struct {
	Resolved string // the program's path without symbolic links
	Dir      string // the working directory without symbolic links
	Mode     string // ModeCopy or ModePath
	Why      string // for people
}

// Inspect looks at a source as Pin would and changes nothing; what cannot be
// pinned is the error Pin would give. It does not read the whole program.
func Inspect(src Source) (Choice, error) {
	f, info, choice, err := open(src)
	if err != nil {
		return Choice{}, fmt.Errorf("pin %s: %w", src.Program, err)
	}
	defer f.Close()
	if err := choice.decide(src, f, info); err != nil {
		return Choice{}, fmt.Errorf("pin %s: %w", src.Program, err)
	}
	return choice, nil
}

// open checks a source and resolves its paths, once.
func open(src Source) (*os.File, fs.FileInfo, Choice, error) {
	fail := func(err error) (*os.File, fs.FileInfo, Choice, error) { return nil, nil, Choice{}, err }
	switch {
	case !filepath.IsAbs(src.Program):
		return fail(errors.New("the path is not absolute"))
	case !filepath.IsAbs(src.Dir):
		return fail(fmt.Errorf("the working directory %q is not absolute", src.Dir))
	case len(src.Args) == 0:
		return fail(errors.New("the argument list is empty; its first element is the program's name"))
	case src.Mode != "" && src.Mode != ModeAuto && src.Mode != ModeCopy && src.Mode != ModePath:
		return fail(fmt.Errorf("the mode %q is none of auto, copy and path", src.Mode))
	}
	if err := checkLabel(src.Label); err != nil {
		return fail(err)
	}
	if err := checkStrings(src); err != nil {
		return fail(err)
	}
	var choice Choice
	var err error
	if choice.Dir, err = filepath.EvalSymlinks(src.Dir); err != nil {
		return fail(fmt.Errorf("the working directory: %w", err))
	}
	if info, err := os.Stat(choice.Dir); err != nil || !info.IsDir() {
		return fail(fmt.Errorf("the working directory %s is not a directory", src.Dir))
	}
	if choice.Resolved, err = filepath.EvalSymlinks(src.Program); err != nil {
		if p := (*fs.PathError)(nil); errors.As(err, &p) && p.Path == src.Program {
			err = p.Err // the path is said already
		}
		return fail(err)
	}
	f, info, err := openProgram(choice.Resolved, 0)
	if errors.Is(err, fs.ErrPermission) {
		return fail(fmt.Errorf("%w; the master must be able to read the program to know its digest", err))
	}
	if err != nil {
		return fail(err)
	}
	switch {
	case info.Size() == 0:
		err = errors.New("the file is empty")
	case info.Size() > maxProgram:
		err = fmt.Errorf("the file has %d bytes, at most %d are allowed", info.Size(), int64(maxProgram))
	case info.Mode().Perm()&0o111 == 0:
		err = fmt.Errorf("the file is not executable (mode %v); chmod +x it", info.Mode().Perm())
	}
	if err != nil {
		f.Close()
		return fail(err)
	}
	return f, info, choice, nil
}

// checkStrings refuses what exec would refuse, and what meta.json could not
// give back byte for byte.
func checkStrings(src Source) error {
	sound := func(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }
	for i, arg := range src.Args {
		if !sound(arg) {
			return fmt.Errorf("argument %d has a zero byte or is not UTF-8", i)
		}
	}
	for name, value := range src.Env {
		if name == "" || strings.Contains(name, "=") || !sound(name) {
			return fmt.Errorf("the environment variable name %q is not one", name)
		}
		if !sound(value) {
			return fmt.Errorf("the environment variable %s has a zero byte or is not UTF-8", name)
		}
	}
	return nil
}

// decide fills in mode and why. What a copy would lose without anybody
// noticing is an error when a copy was asked for.
func (c *Choice) decide(src Source, f *os.File, info fs.FileInfo) error {
	if venv := virtualEnv(src.Program, c.Resolved); venv != "" {
		// The interpreter finds its prefix by the name it is called by, which
		// is a link to one far away: only the directory is resolved.
		dir, err := filepath.EvalSymlinks(filepath.Dir(src.Program))
		if err != nil {
			return err
		}
		c.Resolved = filepath.Join(dir, filepath.Base(src.Program))
	}
	loses := privileges(f, info)
	switch src.Mode {
	case ModeCopy:
		if loses != "" {
			return fmt.Errorf("it has %s, which a copy loses; set worker.pin to path, or grant the privilege in the unit (AmbientCapabilities=)", loses)
		}
		c.Mode, c.Why = ModeCopy, "as configured"
		if why := obstacle(src, c.Resolved, f); why != "" {
			c.Why += ", although " + why
		}
	case ModePath:
		c.Mode, c.Why = ModePath, "as configured"
	default:
		c.Mode = ModePath
		if loses != "" {
			c.Why = "it has " + loses + ", which a copy loses"
			break
		}
		if c.Why = obstacle(src, c.Resolved, f); c.Why == "" {
			c.Mode, c.Why = ModeCopy, "a self-contained executable"
		}
	}
	if err := exchangeable(c.Resolved); err != nil {
		so := "; the copy is what runs: "
		if c.Mode == ModePath {
			so = "; its digest does not prove what runs: "
		}
		c.Why += so + err.Error()
	}
	return nil
}

// privileges names what exec gives to this file and not to its copy.
func privileges(f *os.File, info fs.FileInfo) string {
	switch {
	case info.Mode()&fs.ModeSetuid != 0:
		return "the setuid bit"
	case info.Mode()&fs.ModeSetgid != 0:
		return "the setgid bit"
	case hasCapabilities(f):
		return "file capabilities"
	}
	return ""
}

// obstacle says why a copy elsewhere would not be the same program; empty: it
// would be.
func obstacle(src Source, resolved string, f *os.File) string {
	if src.LooksBeside {
		return "it looks for files beside itself"
	}
	if venv := virtualEnv(src.Program, resolved); venv != "" {
		return "it belongs to the virtual environment " + venv
	}
	base := filepath.Base(resolved)
	if interpreter(base) {
		return base + " is an interpreter, and what it runs is not part of it"
	}
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil && err != io.EOF {
		return "its first bytes cannot be read"
	}
	switch {
	case magic[0] == '#' && magic[1] == '!':
		return "it is a script"
	case string(magic[:]) == elf.ELFMAG:
		return elfObstacle(f)
	}
	if _, err := macho.NewFile(f); err == nil {
		return ""
	}
	return "it is neither an ELF executable nor a script"
}

// elfObstacle looks for libraries that are found relative to the program.
func elfObstacle(f *os.File) string {
	file, err := elf.NewFile(f)
	if err != nil {
		return "its ELF headers cannot be read"
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		paths, _ := file.DynString(tag) // none: static, or no dynamic section
		for _, path := range paths {
			if strings.Contains(path, "$ORIGIN") || strings.Contains(path, "${ORIGIN}") {
				return "it looks for its libraries beside itself (" + path + ")"
			}
		}
	}
	return ""
}

// virtualEnv returns the Python virtual environment that a program belongs to.
func virtualEnv(paths ...string) string {
	for _, path := range paths {
		dir := filepath.Dir(path)
		for _, dir := range []string{dir, filepath.Dir(dir)} {
			if _, err := os.Stat(filepath.Join(dir, "pyvenv.cfg")); err == nil {
				return dir
			}
		}
	}
	return ""
}

// interpreter knows the usual ones by name, with or without a version behind
// it (python3.12, php8.2, lua5.4).
func interpreter(base string) bool {
	name := strings.TrimRight(base, "0123456789.-")
	switch name {
	case "python", "pypy", "node", "nodejs", "deno", "bun", "ruby", "jruby", "perl", "php", "php-fpm",
		"java", "dotnet", "mono", "lua", "luajit", "tclsh", "sh", "bash", "dash", "zsh", "ksh", "busybox":
		return true
	}
	return false
}

// truncated looks for the sign of an ELF file that has not wholly arrived: its
// headers speak of bytes beyond its end. Empty: no such sign.
func truncated(f io.ReaderAt, size int64) string {
	var magic [4]byte
	if n, _ := f.ReadAt(magic[:], 0); n < len(magic) || string(magic[:]) != elf.ELFMAG {
		return ""
	}
	file, err := elf.NewFile(f)
	if err != nil {
		return fmt.Sprintf("its ELF headers do not fit its %d bytes (%v)", size, err)
	}
	for _, p := range file.Progs {
		if end := p.Off + p.Filesz; end < p.Off || end > uint64(size) {
			return fmt.Sprintf("its headers speak of %d bytes, the file has %d", end, size)
		}
	}
	for _, s := range file.Sections {
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
			continue
		}
		if end := s.Offset + s.FileSize; end < s.Offset || end > uint64(size) {
			return fmt.Sprintf("its headers speak of %d bytes, the file has %d", end, size)
		}
	}
	return ""
}
