// Package conditions turns facts (objects, plans, what hosts proved) into what users
// are told: the statuses of our kinds and of Services. It is pure; controllers date
// what it says, write it and make events of what changed.
package conditions
