// Package draft writes a first configuration for a program. What the program is it says by the
// program's file, name and arguments and, if the program may be started once, by what it binds and
// answers then.
package draft
