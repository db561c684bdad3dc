package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/certificate"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/provider"
)

// limit is a bound that somebody may meet: how much of what, why no more, and what is said there.
type limit struct{ what, most, why, said string }

// bounds are the tables of limits, by heading.
func bounds() []struct {
	title string
	all   []limit
} {
	return []struct {
		title string
		all   []limit
	}{
		{"A Service", []limit{
			{"ports times addresses", number(lb.MaxFrontends), "100 ports on two addresses, and then some", "more than … frontends of Service"},
			{"backends: its ports, each times the nodes that carry it", number(admit.MaxBackends), "each is a line of a file, and up to 6 KB in the daemon", "ports on … nodes are … backends, more than"},
			{"pods of one port, with `nodes.backends: Pods`", number(lb.MaxPods), "as for nodes", "more than … endpoints of Frontend"},
			{"pods of all its ports together", number(lb.MaxEndpoints), "the host reads a Service as one", "its ports have more than … pods together"},
			{"source ranges of all its ports together", number(lb.MaxRanges), "the daemon has them for each port", "source ranges together, each port all of them, more than"},
			{"weight of a node", number(lb.MaxWeight), "the largest that every engine takes", "a weight of …, want at most"},
		}},
		{"An UpstreamPolicy", []limit{
			{"policies for one Service, or for ports of it", number(translate.MaxPolicies), "all wait for the manager, which settles each field by them: the oldest count", "of all policies for one Service, the … oldest count"},
			{"timeouts and intervals", short(lb.MaxDuration), "nobody waits for longer", "want between … and …"},
			{"`healthCheck.interval`, at least", short(lb.MinInterval), "all tenants pay for checks, on hosts and nodes", "is too short: checks are … apart at least"},
			{"`http.maxBodyBytes`", "1 TiB", "more is no limit", "a body of … bytes"},
			{"`drain`", short(lb.MinDrain) + " to " + short(lb.MaxDrain), "who leaves is remembered for so long", ""},
			{"`timeouts.keepAlive`", short(lb.MinKeepAlive) + " to " + short(lb.MaxKeepAlive), "the kernel has no longer one", ""},
			{"bytes of `tls.crt`", number(certificate.MaxChain), "so that reading one costs little", "tls.crt has more than … bytes"},
			{"bytes of `tls.key`", number(certificate.MaxKey), "an RSA key of 4,096 bits has much less", "tls.key has more than … bytes"},
			{"certificates in `tls.crt`", number(certificate.MaxCount), "the server's and those of its issuers are fewer", "tls.crt has more than … certificates"},
		}},
		{"A Balancer", []limit{
			{"`reload.minInterval`", "10m", "what only adds something waits for it", "minInterval is at most 10m"},
			{"items: Services, nodes, addresses, certificates", number(lb.MaxItems), "memory of the agent, for two models at a time", "the model has … items, more than"},
			{"bytes of all items", mebibytes(lb.MaxSetBytes), "memory of the agent takes four times as much", "the model has … bytes, more than"},
			{"ports of Services that a host is sent, also of those that it refuses", number(lb.MaxListeners), "a host decodes them before it refuses any", "the model has more than … listeners"},
			{"pods of all ports that a host is sent", number(lb.MaxAllEndpoints), "a host decodes them before it refuses any", "the ports of the model have more than … pods"},
			{"Services, certificates and addresses of all namespaces", number(lb.MaxAllItems), "three quarters of the items that a host takes: beyond, the namespace with the most gives way", "it is left out: a Balancer carries at most …"},
			{"ports of Services of all namespaces", number(lb.MaxAllFrontends), "three quarters of what a host carries", "it is left out: a Balancer carries at most …"},
			{"bytes of Services and certificates of all namespaces", mebibytes(lb.MaxAllBytes), "half of what a host takes: pods and nodes have the rest", "it is left out: a Balancer carries at most …"},
			{"API servers of `controlPlane`", number(admit.MaxServers), "they are carried whether there is room or not", ""},
		}},
		{"A host", []limit{
			{"ports of Services that it carries", number(admit.MaxListeners), "each is a socket of the daemon", "there is no room for … listeners more"},
			{"backends that it carries", "by its memory, or `admit.maxBackends`", "each takes memory of the daemon", "there is no room for … backends more"},
			{"addresses that VRRP moves", number(admit.MaxAddresses), "keepalived tells the network of all of them when they come", "the hosts bring … addresses at most"},
			{"bytes of files that are checked as one", mebibytes(host.MaxSources), "they are Services times nodes, and in memory twice: what comes last is refused", "there is no room for its … bytes of files"},
			{"bytes of files that `external-lb render` and `diff` show of a host", mebibytes(host.MaxRendered), "who asks must not cost the agent its memory", "bytes together, too many to show"},
			{"bytes of an engine's templates of the owner's", number(host.MaxTemplates), "templates are small", "want files of at most … bytes together"},
			{"connections of old workers", "by their memory, `oldWorkersMiB`", "each configuration of before is in memory still", "of memory, so the oldest were ended"},
			{"nodes and pods that leave at once, each for each port", number(engine.MaxLeaving), "they are known until their drain is over", "leave at once, most of them of the namespace"},
			{"listeners of which traffic is told", number(host.MaxTraffic), "as many as one answer has", ""},
			{"terms by which one delivery may be ahead of the last one", number(host.MaxTermJump), "nobody takes a host for good by the greatest number", "is too far ahead of that"},
		}},
		{"A provider", []limit{
			{"listeners of a load balancer", number(provider.MaxListeners), "more than clouds have", ""},
			{"members of one family", number(provider.MaxMembers), "more than clouds have", ""},
			{"source ranges of one family", number(provider.MaxSources), "more than clouds have", ""},
			{"load balancers of one cluster", number(provider.MaxList), "the manager has all of them in memory", "load balancers on a page, or … in all"},
		}},
	}
}

// limits is the page of all bounds that somebody may meet.
func limits() string {
	var b strings.Builder
	b.WriteString("# Limits\n\nWhat nobody can have more of, and why: each is far beyond what people have, and keeps one Service, policy or key from using\n" +
		"up what all share. The bounds of single fields are in [kinds](kinds.md). [Troubleshooting](../troubleshooting.md) says what to do where one is met.\n")
	for _, t := range bounds() {
		fmt.Fprintf(&b, "\n## %s\n\n| what | at most | why | what is said |\n|---|---|---|---|\n", t.title)
		for _, l := range t.all {
			said := l.said
			if said != "" {
				said = "*" + said + "*"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.what, l.most, l.why, said)
		}
	}
	return b.String()
}

// number with commas, as people write it.
func number(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func mebibytes(n int) string { return fmt.Sprintf("%d MiB", n>>20) }

// short is a duration without what is 0.
func short(d time.Duration) string {
	text := strings.TrimSuffix(d.String(), "0s")
	if d < time.Minute {
		return d.String()
	}
	return strings.TrimSuffix(text, "0m")
}
