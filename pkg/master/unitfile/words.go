package unitfile

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// words takes a value apart as systemd.syntax(7) says: quotes of both kinds, and backslashes as in
// C within and without them. One that begins nothing that is known there stays as it is.
func words(value string) (list []string, err error) {
	var word strings.Builder
	begun, quote := false, byte(0)
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '\\' && i+1 < len(value):
			text, n := unescape(value[i+1:])
			word.WriteString(text)
			i, begun = i+n, true
		case c == '\\':
			return nil, errors.New(`it ends with a "\"`)
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, begun = c, true
		case strings.IndexByte(" \t\n\r", c) >= 0:
			if begun {
				list, begun = append(list, word.String()), false
				word.Reset()
			}
		default:
			begun = true
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if begun {
		list = append(list, word.String())
	}
	for _, w := range list {
		if !utf8.ValidString(w) || strings.ContainsRune(w, 0) {
			return nil, errors.New("it has what is no text in UTF-8")
		}
	}
	return list, nil
}

// escapes are those of one letter.
var escapes = map[byte]string{
	'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v", '\\': `\`, '"': `"`, '\'': `'`, 's': " ",
}

// unescape is what comes after a backslash, and how many bytes of it belong to that.
func unescape(s string) (text string, n int) {
	if t, ok := escapes[s[0]]; ok {
		return t, 1
	}
	number := func(from, digits, base int) (uint64, bool) {
		if len(s) < from+digits {
			return 0, false
		}
		v, err := strconv.ParseUint(s[from:from+digits], base, 32)
		return v, err == nil && v != 0
	}
	for _, form := range []struct {
		letter       byte
		digits, base int
	}{{'x', 2, 16}, {'u', 4, 16}, {'U', 8, 16}} {
		if v, ok := number(1, form.digits, form.base); ok && s[0] == form.letter {
			if form.letter == 'x' {
				return string([]byte{byte(v)}), 3
			}
			return string(rune(v)), 1 + form.digits
		}
	}
	if v, ok := number(0, 3, 8); ok && v < 256 {
		return string([]byte{byte(v)}), 3
	}
	_, size := utf8.DecodeRuneInString(s)
	return `\` + s[:size], size
}
