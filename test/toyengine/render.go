package toyengine

import (
	"net/netip"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// service is what the templates print of a Service.
type service struct {
	Name      string
	Frontends []frontend
}

type frontend struct {
	Listen  netip.AddrPort
	Connect string // timeout
	Tries   int32  // nodes for one connection
	From    []netip.Prefix
	To      []netip.AddrPort
}

// viewOf refuses what cannot be printed safely or toyd cannot do.
func viewOf(s *engine.Service) (engine.View, error) {
	id, frontends, err := capabilities.CheckService(name, s)
	if err != nil {
		return engine.View{}, err
	}
	printed := &service{Name: engine.ServiceName(id)}
	out := engine.View{Data: printed}
	for _, f := range frontends {
		at := netip.AddrPortFrom(f.Listener.Address, f.Listener.Port)
		p := frontend{Listen: at, Connect: engine.Milliseconds(f.Settings.ConnectTimeout), Tries: f.Settings.Retries + 1, From: engine.Sources(f.Allow)}
		if f.Allow.Everybody {
			everybody, _ := at.Addr().Prefix(0) // 0 bits are never too many
			p.From = []netip.Prefix{everybody}
		}
		for _, b := range f.Backends {
			p.To = append(p.To, b.Address)
		}
		printed.Frontends = append(printed.Frontends, p)
		out.Listens = append(out.Listens, fileset.Socket{Network: "tcp", Address: at})
	}
	return out, nil
}

func factsOf(file []byte) engine.Facts {
	f := engine.Facts{}
	for line := range strings.Lines(engine.WithoutRemarks(file)) {
		switch words := strings.Fields(line); {
		case len(words) < 2:
		case words[0] == "listen", words[0] == "from":
			f.Exactly(words[:2]...)
		case words[0] == "to":
			f.Must(words[:2]...)
		}
	}
	return f
}
