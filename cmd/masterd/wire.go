package main

import "errors"

// startMaster makes the master.
func startMaster(o daemonOptions) (daemon, error) {
	return nil, errors.New("the master is not wired in yet")
}
