package lb

import "time"

// VRRP is how the hosts of a Balancer agree which of them has its addresses.
type VRRP struct {
	Interface string        // in the alphabet [A-Za-z0-9_.-], 15 bytes at most
	RouterID  uint8         // 1 to 255; no other router on the network segment has it
	Interval  time.Duration // between advertisements, in hundredths of a second
	Hosts     []VRRPHost
}

// VRRPHost is one of them. The one that works and has the highest priority has
// the addresses.
type VRRPHost struct {
	Name     string
	Priority uint8 // 1 to 254
}
