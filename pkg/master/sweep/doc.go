// Package sweep ends what is left of a service that is not coming back: the
// processes of its systemd unit. A unit of masterd's has KillMode=process, so
// that workers outlive a master that dies; somebody else has to see to it that
// they do not outlive the service: `masterd sweep`, which systemd runs when a unit has
// ended, or an operator. [End] waits for the end of what it ends, at most for the grace
// that it is given and then for killLimit.
package sweep
