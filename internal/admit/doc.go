// Package admit decides what of a model a host carries: what its owner's rules
// allow, and what no rule can allow. It is pure. Whoever has the key of a host can
// say "carry this" within these rules, and nothing else.
//
// What comes out of it listens on admitted addresses and ports, none of them of the
// host's own daemons; sends to admitted networks on admitted ports, so that kubelets,
// etcd and sshd of nodes are out of reach, by health checks as well; and never to
// where it listens itself. Each part is judged by itself and by what it refers to:
// one that is refused, or a node that says it has another's address, takes nothing
// from the others. Where two claim one address, the owner's networks decide first,
// then what the controller has given out, and what a node or a pod says of itself last.
//
// A node that may be sent to on some of the ports of a Service only carries those
// Services of which it may be sent to on every port.
//
// What it cannot prevent:
//
//   - Within the rules, whoever has the key decides who answers: they can withdraw
//     Services, and send what arrives at an admitted listener to any machine in
//     admit.backends that listens on an admitted port. Name the networks of the nodes.
//   - Without admit.addresses, they can have the host bring an address of another
//     machine of its network, the router's or a node's, which then loses its traffic;
//     and without admit.routerIDs, disturb other routers that speak VRRP.
//   - Without admit.ports, a listener may have a port of a daemon of the host that did
//     not run when the host was prepared (nginx and HAProxy fail to take it from one
//     that runs, LVS takes it), or one from which the host itself asks others, DNS say.
//   - With admit.ownPorts, a node may say that it has an address of this host: who has the
//     machine has it as a node, too. On these ports no Service is listened for there then.
//   - Health checks tell which machines of the admitted networks answer on the
//     admitted ports, and on 10256.
//   - An address may stand for another where routers say so: behind NAT64 with a prefix
//     of the site's own, or behind NAT of the network. Only the well-known forms are seen.
//   - A Service that is direct reaches a node at the listener's address and port. The
//     node answers for itself where it has that address: on the ports of Kubernetes and
//     sshd (see Reserved) nothing is sent so, other daemons of nodes are the owner's to
//     think of, with admit.ports. A machine that forwards what is not for it, a router,
//     can send it back.
package admit
