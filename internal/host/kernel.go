package host

import (
	"context"
	"fmt"

	"github.com/external-lb/external-lb/internal/engine"
)

// nonlocalBind lets daemons bind addresses that have not arrived yet.
var nonlocalBind = []engine.KernelSetting{
	{Key: "net.ipv4.ip_nonlocal_bind", Value: 1},
	{Key: "net.ipv6.ip_nonlocal_bind", Value: 1},
}

// sysctl sets what the kernel must do, now and after a reboot.
func (in *installer) sysctl(context.Context) error {
	const name = "sysctl"
	var wanted []engine.KernelSetting
	if in.NonlocalBind {
		wanted = append(wanted, nonlocalBind...)
	}
	for _, p := range in.parts {
		wanted = append(wanted, p.Kernel()...)
	}
	if len(wanted) == 0 {
		return nil
	}
	text := "# Made by `external-lb host install`.\n"
	for _, s := range wanted {
		value, ok, err := s.Now()
		if err != nil {
			return in.fail(name, fmt.Errorf("%s: %w", s.Key, err))
		}
		if s.Least && value > s.Value {
			continue // the owner's
		}
		text += fmt.Sprintf("%s = %d\n", s.Key, s.Value)
		if !ok {
			continue
		}
		if err := in.Step(name, s.Key, value == s.Value, s.Set); err != nil {
			return err
		}
	}
	return in.File(name, "/etc/sysctl.d/60-external-lb.conf", []byte(text), 0o644)
}
