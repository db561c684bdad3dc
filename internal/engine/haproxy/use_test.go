package haproxy

import (
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
)

func TestUses(t *testing.T) {
	info := "Name: HAProxy\nUlimit-n: 4053\nMaxsock: 4053\nMaxconn: 2000\nHard_maxconn: 2000\nCurrConns: 1700\nCumConns: 99\nCurrSslConns: 3\n"
	want := engine.Uses{Connections: engine.Use{Used: 1700, Limit: 2000}, Files: engine.Use{Used: 3412, Limit: 4053}}
	if got := usesOf(info, 12); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := usesOf("", 0); got != (engine.Uses{}) {
		t.Errorf("of nothing: %+v", got)
	}
}
