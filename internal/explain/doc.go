// Package explain says of one Service how far it gets on its way to an address that
// answers, and what stops it first: objects → findings, in the order in which the controller
// decides. It is pure.
package explain
