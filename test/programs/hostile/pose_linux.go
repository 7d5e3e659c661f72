package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// pose says hello as the worker that is process pid, with all that is in its
// environment, and prints what the master says to that.
func pose(pid string) {
	text, err := os.ReadFile("/proc/" + pid + "/environ")
	check(err)
	env := map[string]string{}
	for kv := range bytes.SplitSeq(text, []byte{0}) {
		key, value, _ := strings.Cut(string(kv), "=")
		env[key] = value
	}
	c, err := net.Dial("unixpacket", env["MASTERD_CONTROL"])
	check(err)
	defer c.Close()
	_, err = fmt.Fprintf(c, `{"type":"hello","hello":{"min":1,"max":2,"worker":%s,"generation":%s,"secret":%q,"pid":%d,"sdk":"hostile","state":"active"}}`,
		env["MASTERD_WORKER"], env["MASTERD_GENERATION"], env["MASTERD_SECRET"], os.Getpid())
	check(err)
	check(c.SetReadDeadline(time.Now().Add(10 * time.Second)))
	answer := make([]byte, 64<<10)
	n, err := c.Read(answer)
	check(err)
	fmt.Println(string(answer[:n]))
}
