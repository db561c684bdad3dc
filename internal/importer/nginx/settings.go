package nginx

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

func check(s *scope) *v1alpha1.HealthCheck {
	if s.settings.HealthCheck == nil {
		s.settings.HealthCheck = &v1alpha1.HealthCheck{}
	}
	return s.settings.HealthCheck
}

func proxyProtocol(s *scope) *v1alpha1.ProxyProtocol {
	if s.settings.ProxyProtocol == nil {
		s.settings.ProxyProtocol = &v1alpha1.ProxyProtocol{}
	}
	return s.settings.ProxyProtocol
}

func timeouts(s *scope) *v1alpha1.Timeouts {
	if s.settings.Timeouts == nil {
		s.settings.Timeouts = &v1alpha1.Timeouts{}
	}
	return s.settings.Timeouts
}

func requests(s *scope) *v1alpha1.HTTPSettings {
	if s.settings.HTTP == nil {
		s.settings.HTTP = &v1alpha1.HTTPSettings{}
	}
	return s.settings.HTTP
}

// limit of connections, if it is by the client's address.
func (r *reading) limit(s *scope, d directive) {
	zone, known := r.limits[first(d.args)]
	key := first(zone.args)
	var err error
	if known && (key == "$binary_remote_addr" || key == "$remote_addr") {
		s.settings.MaxConnectionsPerClient, err = importer.Number(last(d.args), 1, 10_000_000)
	} else if known && key == "$server_port" {
		s.settings.MaxConnections, err = importer.Number(last(d.args), 1, 10_000_000)
	} else {
		err = fmt.Errorf("only limits by the client's address are carried over, not by %q", key)
	}
	if err != nil {
		r.out.Notes.Add(d.place, "limit_conn: %v", err)
	}
}

// rate of requests, if it is by the client's address and second.
func (r *reading) rate(s *scope, d directive) {
	name, _ := strings.CutPrefix(first(d.args), "zone=")
	zone, known := r.limits[name]
	number, perSecond := strings.CutSuffix(strings.TrimPrefix(last(zone.args), "rate="), "r/s")
	n, err := importer.Number(number, 1, 1_000_000)
	switch key := first(zone.args); {
	case !known || key != "$binary_remote_addr" && key != "$remote_addr":
		err = fmt.Errorf("only limits by the client's address are carried over, not by %q", key)
	case !perSecond:
		err = fmt.Errorf("only a rate of each second is carried over")
	}
	if err != nil {
		r.out.Notes.Add(d.place, "limit_req: %v", err)
		return
	}
	s.settings.MaxRatePerClient = n
}

// size in bytes, such as 20m.
func size(text string) (*int64, error) {
	number, unit := text, int64(1)
	for i, letter := range []string{"k", "m", "g"} {
		if before, ok := strings.CutSuffix(strings.ToLower(text), letter); ok {
			number, unit = before, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<40)/unit {
		return nil, fmt.Errorf("%q is not a size up to 1 TiB", text)
	}
	n *= unit
	return &n, nil
}

// headers of a request: so many buffers of a size. What is nginx's default is said by nothing.
func headers(s *scope, args []string) error {
	count, err := importer.Number(first(args), 1, 64)
	if err != nil {
		return err
	}
	each, err := size(last(args))
	if err != nil {
		return err
	}
	all := int64(*count) * *each
	switch {
	case *count == 4 && *each == 8<<10:
		return nil
	case all < 1024 || all > 65536:
		return fmt.Errorf("%d bytes of headers are not between 1024 and 65536", all)
	}
	most := int32(all)
	requests(s).MaxHeaderBytes = &most
	return nil
}
