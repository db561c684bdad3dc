package ipam

import "k8s.io/apimachinery/pkg/types"

// Assign settles who has which address of one Balancer's pools. What is
// published comes first, then what is on record, then the rest; in each the
// older Service before the younger. The result depends on neither the order of
// pools nor that of requests. Every pool has an entry in the usage.
func Assign(pools []*Pool, requests []Request) (map[types.UID]Assignment, map[string]Usage) {
	return map[types.UID]Assignment{}, map[string]Usage{}
}
