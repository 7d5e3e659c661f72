package steer

import (
	"slices"
	"testing"
)

func TestOrder(t *testing.T) {
	a := Array{0, 1, 2, 3, 4}
	a.Leave(1)
	a.Leave(0)
	a.Leave(7)
	if !slices.Equal(a, Array{3, 4, 2}) {
		t.Error(a)
	}
	a.Join(4)
	a.Join(1)
	if !slices.Equal(a, Array{3, 4, 2, 1}) {
		t.Error(a)
	}
	if got := a.Indices(4); !slices.Equal(got, []uint32{1, 3, 2, 0, 1}) { // 0 does not listen
		t.Error(got)
	}
	if got := a.Renamed(4, 9); !slices.Equal(got, Array{3, 9, 2, 1}) || a[1] != 4 {
		t.Error(got, a)
	}
}

func TestKeptOrder(t *testing.T) {
	kept := Array{2, 0, 1}.Kept(2)
	if !slices.Equal(kept, []int{OwnOrder, 0, 1}) {
		t.Error(kept)
	}
	if got, err := ReadArray(kept, 5); err != nil || !slices.Equal(got, Array{5, 0, 1}) {
		t.Error(got, err)
	}
	for _, kept := range [][]int{{0, 0}, {6}, {-7}, {OwnOrder, 5}} {
		if got, err := ReadArray(kept, 5); err == nil {
			t.Errorf("%v is read as %v", kept, got)
		}
	}
}
