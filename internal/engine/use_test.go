package engine

import (
	"net"
	"os"
	"testing"
)

// Lines of /proc/net/tcp and udp of a kernel 6.1.
func TestConnectedSockets(t *testing.T) {
	for line, want := range map[string]bool{
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode":                                           false,
		"   1: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000    33        0 21 1 0000000000000000 20 4 30 10 -1":             true,
		"   2: 0100007F:0050 0100007F:9C41 06 00000000:00000000 03:000005E4 00000000    33        0 0 3 0000000000000000":                            false, // TIME_WAIT
		"   3: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 20 1 0000000000000000 100 0 0 10 0":              false, // LISTEN
		"   4: 0100007F:0050 0100007F:9C42 01 00000000:00000000 00:00000000 00000000     0        0 22 1 0000000000000000 20 4 30 10 -1":             false,
		"  771: 0200000A:A1B2 0101000A:7593 01 00000000:00000000 00:00000000 00000000    33        0 23 2 0000000000000000 0":                        true,
		"  772: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000    33        0 24 2 0000000000000000 0":                        false,
		"   1: 00000000000000000000000001000000:0050 00000000000000000000000001000000:9C40 08 00000000:00000000 00:00000000 00000000 33 0 21 1 0 20": true, // CLOSE_WAIT
		"": false,
	} {
		if got := connectedOf([]byte(line), "33"); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}

func TestSocketsAreThoseOfTheUser(t *testing.T) {
	uid, ok := ProcessOwner(os.Getpid())
	if !ok || uid != os.Geteuid() {
		t.Fatalf("this process is of %d, %t", uid, ok)
	}
	if _, ok := ProcessOwner(1 << 30); ok {
		t.Error("nobody's process has an owner")
	}
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, udp := Sockets(uid); udp == 0 {
		t.Error("a socket of this process is not seen")
	}
	if tcp, udp := Sockets(4_000_000_000 >> 1); tcp != 0 || udp != 0 {
		t.Errorf("nobody has %d and %d sockets", tcp, udp)
	}
}

func TestTheFullerUse(t *testing.T) {
	empty, half, full := Use{Used: 1, Limit: 1000}, Use{Used: 5, Limit: 10}, Use{Used: 9, Limit: 10}
	for _, c := range []struct{ a, b, want Use }{
		{half, full, full}, {full, half, full}, {empty, half, half}, {half, Use{}, half}, {Use{}, empty, empty}, {Use{}, Use{}, Use{}}, {Use{Used: 7}, empty, empty},
	} {
		if got := c.a.Fuller(c.b); got != c.want {
			t.Errorf("of %+v and %+v: %+v", c.a, c.b, got)
		}
	}
}
