// Package sweep ends what is left of a service that is not coming back: the
// processes of its systemd unit. A unit of masterd's has KillMode=process, so
// that workers outlive a master that dies; somebody else has to see to it that
// they do not outlive the service.
package sweep
