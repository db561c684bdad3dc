// Package deliver turns the items that the hosts of a Balancer should carry into
// deliveries to each of them, over SSH or by the socket of an agent on the same
// machine, and keeps what each host was last proved to carry.
//
// Each Deliver is a round: what all hosts should carry by then. One host, the canary, gets the
// newest round; the others get the last one that the canary has proved. A host goes on to:
//
//	what it is                         | what it gets
//	-----------------------------------+------------------------------------------------------
//	the canary                         | the newest round
//	any other, the newest is proved,   | the newest round
//	  or wants the same of it          |
//	any other                          | the last proved round, unless it was given a newer one
//	of no use, like all other hosts    | the newest round if it answers: that may mend it;
//	                                   |   else what it was given
//
// Who is the canary is decided anew whenever something changes: see canary. A host that is of no
// use (it cannot be reached, its disk is full) is none until a delivery to it ends well. One that did not
// answer a delivery is none until it answers one, whatever else it answers, unless all are so. Nor is one that has
// refused several changes in a row until it proves one: see refused. No host is given
// an older round than it was. What it does with what it was given is its worker's affair alone: see plan.
// It tries again where that failed, was lost or is no longer there.
package deliver
