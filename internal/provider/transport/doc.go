// Package transport carries deliveries to a provider: to the worker of internal/deliver a
// provider is a host. A Conn keeps what it was told last, as a host does on its disk, makes
// a provider.Spec of each Service with the nodes that carry it, and asks for those that the
// cloud does not show. docs/design/0020-a-providers-balancer.md says why.
package transport
