package unitfile

import (
	"fmt"
	"strings"
)

// specifiers are those of systemd.unit(5) that are the same wherever the unit runs as one of the
// system's, with what they stand for.
type specifiers map[byte]string

// specifiersOf are those of a unit with this file name.
func specifiersOf(name string) specifiers {
	plain := name
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		plain = name[:i]
	}
	s := specifiers{
		'%': "%", 'n': name, 'N': plain, 'p': plain, 'j': plain[strings.LastIndexByte(plain, '-')+1:],
		't': "/run", 'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'E': "/etc", 'T': "/tmp", 'V': "/var/tmp",
		'u': "root", 'U': "0", 'g': "root", 'G': "0", 'h': "/root", 's': "/bin/sh",
		'i': "", 'I': "",
	}
	if prefix, instance, ok := strings.Cut(plain, "@"); ok {
		s['p'], s['j'] = prefix, prefix[strings.LastIndexByte(prefix, '-')+1:]
		s['i'], s['I'] = instance, unescapeName(instance)
		if instance == "" { // a template: it has no instance here
			delete(s, 'i')
			delete(s, 'I')
			delete(s, 'n')
			delete(s, 'N')
		}
	}
	s['P'], s['J'] = unescapeName(s['p']), unescapeName(s['j'])
	return s
}

// unescapeName undoes systemd-escape: "-" is "/", and \xXX a byte.
func unescapeName(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch {
		case name[i] == '-':
			b.WriteByte('/')
		case name[i] == '\\' && strings.HasPrefix(name[i:], `\x`):
			text, n := unescape(name[i+1:])
			b.WriteString(text)
			i += n
		default:
			b.WriteByte(name[i])
		}
	}
	return strings.ToValidUTF8(b.String(), "?")
}

// expand puts in what specifiers stand for.
func (s specifiers) expand(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		value, ok := s[text[i]]
		switch {
		case ok:
			b.WriteString(value)
		case strings.IndexByte("iInN", text[i]) >= 0:
			return "", fmt.Errorf("%%%c needs an instance; name the file with it (%s)", text[i], "NAME@INSTANCE.service")
		case text[i] >= 'a' && text[i] <= 'z' || text[i] >= 'A' && text[i] <= 'Z':
			return "", fmt.Errorf("%%%c is known on the machine that runs it alone; write what it stands for", text[i])
		default: // none; systemd leaves it
			b.WriteString(text[i-1 : i+1])
		}
	}
	return b.String(), nil
}
