package lvs

import "github.com/external-lb/external-lb/internal/engine"

// forwards lets IPVS send answers back, and clients know when their node has gone, and
// clients that come back to their node get another one when theirs fails its check.
// The kernel remembers each connection for two minutes after its end, and drops new
// ones when its table is full; what it has room for by default goes with the
// machine's memory: 4,096 with half a gigabyte, which 35 connections a second fill.
var forwards = []engine.KernelSetting{
	{Key: "net.ipv4.ip_forward", Value: 1},
	{Key: "net.ipv6.conf.all.forwarding", Value: 1},
	{Key: "net.ipv4.vs.conntrack", Value: 1},
	{Key: "net.ipv4.vs.expire_nodest_conn", Value: 1},
	{Key: "net.ipv4.vs.expire_quiescent_template", Value: 1},
	{Key: "net.netfilter.nf_conntrack_buckets", Value: 65536, Least: true},
	{Key: "net.netfilter.nf_conntrack_max", Value: 262144, Least: true},
}
