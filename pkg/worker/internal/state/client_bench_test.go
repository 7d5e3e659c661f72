//go:build linux

package state

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
)

// BenchmarkKeep is what keeping costs, without the pace.
func BenchmarkKeep(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			data := bytes.Repeat([]byte("x"), size)
			for b.Loop() {
				f, err := sealedMemory(ipc.Blob{Name: "a", Size: int64(size)}, bytes.NewReader(data))
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
}
