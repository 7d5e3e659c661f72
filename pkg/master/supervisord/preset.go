package supervisord

import "github.com/masterd/masterd/pkg/master/draft"

// recognise finds the preset for a program. The preset knows the server's signals better than
// a file for a manager that has only one.
func (p *Program) recognise() {
	p.preset = draft.PresetOf(p.command)
	if p.preset == nil {
		return
	}
	p.say("preset", "is %s: what masterd knows of this server", p.preset.Name)
	if p.signal != "" {
		p.say("stopsignal", "the preset knows which signals have it finish and end")
		p.signal = ""
	}
	if p.listens == "" {
		p.listens = "it is " + p.preset.Name
	}
}
