package haproxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// statistics are those of HAProxy 2.6, with the fields that count and some others.
const statistics = `# pxname,svname,qcur,scur,stot,bin,bout,dreq,ereq,econ,status,lastchg,tracked,dcon,dses,later,
owner,FRONTEND,,9,9,9,9,9,9,,OPEN,,,9,9,,
external-lb.nodes.ipv4.abc,n1,0,0,0,0,0,0,,0,DOWN,7,,,,,
default.web.uid-1.192-0-2-1.80.tcp,FRONTEND,,3,50,1000,2000,0,1,,OPEN,,,2,4,,
default.web.uid-1.192-0-2-1.80.tcp,n2,0,1,20,500,600,0,,0,UP,90,external-lb.nodes.ipv4.abc/n2,,,,
default.web.uid-1.192-0-2-1.80.tcp,n1,0,0,0,0,0,0,,0,DOWN,7,external-lb.nodes.ipv4.abc/n1,,,,
default.web.uid-1.192-0-2-1.80.tcp,n3,0,0,0,0,0,0,,0,MAINT (via x/y),7,x/y,,,,
default.web.uid-1.192-0-2-1.80.tcp,BACKEND,0,1,20,500,600,0,,5,UP,90,,,,,
default.web.uid-1.2001-db8--1.443.tcp,FRONTEND,,1,2,3,4,0,0,,OPEN,,,0,0,,
default.web.uid-1.2001-db8--1.443.tcp,n1,0,1,20,500,600,0,,0,no check,90,,,,,
default.web.uid-1.2001-db8--1.443.tcp,BACKEND,0,1,20,500,600,0,,0,UP,90,,,,,
torn line

`

func TestStatisticsAreOfListeners(t *testing.T) {
	got, err := parseStatistics(strings.NewReader(statistics))
	id := lb.ID{Namespace: "default", Name: "web", UID: "uid-1"}
	want := []engine.Traffic{
		{
			Carried: engine.Carried{Service: id, Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: lb.TCP}},
			Counts:  engine.Counts{Open: 3, Made: 50, Refused: 6, Failed: 5, BytesIn: 1000, BytesOut: 2000},
			Judged:  engine.Judged{Up: 1, Down: 1, Named: []engine.DownNode{{Node: "n1", For: 7 * time.Second}}},
		},
		{
			Carried: engine.Carried{Service: id, Listener: lb.Listener{Address: netip.MustParseAddr("2001:db8::1"), Port: 443, Protocol: lb.TCP}},
			Counts:  engine.Counts{Open: 1, Made: 2, BytesIn: 3, BytesOut: 4},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestStatisticsThatAreNone(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":    "",
		"no fields":  "# pxname,svname\n",
		"no answers": "Unknown command.\n",
	} {
		if got, err := parseStatistics(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	endless := strings.NewReader(statistics + strings.Repeat(strings.Repeat("x,", 500)+"\n", maxStatistics/1000))
	if _, err := parseStatistics(endless); err == nil {
		t.Error("more than is read was taken for all")
	}
}
