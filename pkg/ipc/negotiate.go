package ipc

import "fmt"

// Negotiate picks the newest protocol version that this side ([MinVersion] to
// [MaxVersion]) and a peer that speaks min to max have in common. The error
// says which side is to be brought up to date.
func Negotiate(min, max int) (int, error) {
	return negotiate(MinVersion, MaxVersion, min, max)
}

func negotiate(ourMin, ourMax, min, max int) (int, error) {
	switch {
	case min < 1 || max < min:
		return 0, fmt.Errorf("protocol versions %d to %d are not a range", min, max)
	case max < ourMin:
		return 0, fmt.Errorf("the worker speaks protocol versions %d to %d, this master %d to %d: build the worker with a newer SDK", min, max, ourMin, ourMax)
	case min > ourMax:
		return 0, fmt.Errorf("the worker speaks protocol versions %d to %d, this master %d to %d: upgrade masterd", min, max, ourMin, ourMax)
	case max < ourMax:
		return max, nil
	}
	return ourMax, nil
}
