// Package cluster runs a Kubernetes cluster with balancer hosts on one Linux machine, without containers:
// real etcd, kube-apiserver, kube-controller-manager and kube-proxy, and network namespaces for machines.
//
//	this machine ── elb-<id> ──┐ (tests, kubectl and a manager run here)
//	                           │
//	 client ───────────────────┤ router: a bridge, 198.18.<n>.0/20, and the routes
//	                           │   to pods (by their node) and to the virtual
//	 lb1  sshd, nginx ─────────┤   addresses (by the balancer hosts, RouteVia)
//	 lb2  sshd, nginx ─────────┤
//	                           │
//	 control-plane ────────────┤ etcd, kube-apiserver, kube-controller-manager
//	                           │
//	 node1  kube-proxy ────────┤
//	   ├─ default/web-1  echo  │
//	   └─ default/web-2  echo  │
//	 node2  kube-proxy ────────┘
//
// Nodes, pods and clients are network namespaces. A balancer host also has processes, a host name and a
// filesystem of its own: this machine's root seen through an overlay that keeps what the host writes.
// Hosts of the engine lvs, and nodes whose kube-proxy is in mode ipvs, are virtual machines of User-Mode
// Linux, since not every kernel has IPVS.
//
// A pod is a Pod object bound to a node, whose status this package writes in place of a kubelet, and a
// small server that says who it is (Answer). Pods that controllers make are run by RunKubelet.
//
// All of it hangs on one process, the first of the cluster's PID namespace. When that ends, the kernel
// takes the rest: processes, mounts, namespaces, links. It ends with its owner, unless that has detached
// it; so a test that is killed leaves nothing behind but files in its directory.
//
// # Requirements
//
// Linux, root, Go, and on Debian:
//
//	make deps
//
// The programs of etcd and Kubernetes are built from the module in kube/ once, and the kernel of virtual
// machines from Debian's sources, into the user's cache.
package cluster
