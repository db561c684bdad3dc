package ipam

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	for entry, want := range map[string]string{
		"198.51.100.7":                "198.51.100.7",
		" 198.51.100.7 ":              "198.51.100.7",
		"192.0.2.0/28":                "192.0.2.0-192.0.2.15",
		"192.0.2.7/32":                "192.0.2.7",
		"192.0.2.64-192.0.2.80":       "192.0.2.64-192.0.2.80",
		"192.0.2.64 - 192.0.2.80":     "192.0.2.64-192.0.2.80",
		"192.0.2.64-192.0.2.64":       "192.0.2.64",
		"10.0.0.0/8":                  "10.0.0.0-10.255.255.255",
		"2001:db8::/120":              "2001:db8::-2001:db8::ff",
		"2001:DB8::1":                 "2001:db8::1",
		"2001:db8::/64":               "2001:db8::-2001:db8::ffff:ffff:ffff:ffff",
		"2001:db8::1-2001:db8::1:0:0": "2001:db8::1-2001:db8::1:0:0",
		"fd00::/8":                    "fd00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"240.0.0.1":                   "240.0.0.1",
	} {
		s, err := parseRange(entry)
		if err != nil || s.String() != want {
			t.Errorf("parseRange(%q) = %s, %v; want %s", entry, s, err, want)
		}
	}
}

func TestParseRange_Refuses(t *testing.T) {
	for entry, want := range map[string]string{
		"":                                  "is no address",
		"-":                                 "is no address",
		"web.example":                       "is no address",
		"192.0.2.1,192.0.2.2":               "is no address",
		"192.0.2.01":                        "is no address",
		"192.0.2.1-":                        "is no address",
		"192.0.2.1-192.0.2.2-192.0.2.3":     "is no address",
		"192.0.2.0/33":                      "is no prefix",
		"192.0.2.0/-1":                      "is no prefix",
		"192.0.2.0/28-192.0.2.64":           "is no prefix",
		"192.0.2.5/28":                      "write 192.0.2.0/28 for the prefix, or 192.0.2.5 for the one address",
		"192.0.2.80-192.0.2.64":             "is reversed: write 192.0.2.64-192.0.2.80",
		"192.0.2.1-2001:db8::1":             "from one family to the other",
		"::ffff:192.0.2.1":                  "write 192.0.2.1",
		"::ffff:192.0.2.0/120":              "written as IPv6",
		"::ffff:192.0.2.1-::ffff:192.0.2.9": "written as IPv6",
		"fe80::1%eth0":                      "has a zone",
		"2001:db8::1%eth0":                  "write 2001:db8::1",
		"0.0.0.0":                           "unspecified",
		"0.0.0.0/0":                         "unspecified",
		"::":                                "unspecified",
		"::/0":                              "unspecified",
		"127.0.0.1":                         "loopback",
		"126.0.0.0-128.0.0.0":               "loopback",
		"::1":                               "loopback",
		"169.254.10.0/24":                   "link-local",
		"fe80::1":                           "link-local",
		"224.0.0.0/24":                      "multicast",
		"ff02::1":                           "multicast",
		"255.255.255.255":                   "broadcast",
	} {
		if s, err := parseRange(entry); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parseRange(%q) = %s, %v; want an error with %q", entry, s, err, want)
		}
	}
}

func TestRangeSize(t *testing.T) {
	for entry, want := range map[string]int64{
		"192.0.2.1":                    1,
		"192.0.2.0/28":                 16,
		"1.0.0.0-126.255.255.255":      126 << 24,
		"2001:db8::/76":                1 << 52,
		"2001:db8::/75":                maxCapacity,
		"2001:db8::/64":                maxCapacity,
		"2001:db8::/32":                maxCapacity,
		"2001:db8::ffff-2001:db8::1:0": 2,
		"2001:db8:0:0:ffff:ffff:ffff:ffff-2001:db8:0:1::": 2,
	} {
		s, err := parseRange(entry)
		if err != nil || s.size() != want {
			t.Errorf("%s has %d addresses (%v), want %d", entry, s.size(), err, want)
		}
	}
}

func TestMerge(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.8,192.0.2.0/29,192.0.2.4":        "192.0.2.0-192.0.2.8",
		"192.0.2.9,192.0.2.0/29":                  "192.0.2.0-192.0.2.7,192.0.2.9",
		"192.0.2.0/28,192.0.2.0/30":               "192.0.2.0-192.0.2.15",
		"255.255.255.254,2001:db8::1":             "255.255.255.254,2001:db8::1",
		"192.0.2.1-192.0.2.5,192.0.2.3-192.0.2.9": "192.0.2.1-192.0.2.9",
	} {
		var ranges []addrRange
		for entry := range strings.SplitSeq(in, ",") {
			s, err := parseRange(entry)
			if err != nil {
				t.Fatal(err)
			}
			ranges = append(ranges, s)
		}
		var got []string
		for _, s := range merge(ranges) {
			got = append(got, s.String())
		}
		if strings.Join(got, ",") != want {
			t.Errorf("merge(%s) = %s, want %s", in, got, want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"192.0.2.0/28", "192.0.2.64-192.0.2.80", "2001:db8::/64", "::ffff:1.2.3.4", "fe80::1%a", "::/0", "1-2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		s, err := parseRange(entry)
		if err != nil {
			return
		}
		if s.first.Is4() != s.last.Is4() || s.last.Less(s.first) || s.size() < 1 || s.size() > maxCapacity {
			t.Fatalf("parseRange(%q) = %s of size %d", entry, s, s.size())
		}
		for _, a := range []netip.Addr{s.first, s.last} {
			if !plain(a) || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
				t.Fatalf("parseRange(%q) has %s", entry, a)
			}
		}
		if again, err := parseRange(s.String()); err != nil || again != s {
			t.Fatalf("parseRange(%q) = %s, read again %s, %v", entry, s, again, err)
		}
	})
}
