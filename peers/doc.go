// Package peers makes several gateways in front of the same servers work as one.
//
// Each gateway tells the others what its upstreams do (Report), and each adds up what it hears (Sum),
// so that whoever scales measures the whole. One of them scales: the one that holds the Lease, and only
// as long as its Term is valid. Slots and rates are divided among those alive (Slots, Rate), in such a
// way that all together never have more than the cap.
//
// The package knows no engine. Membership, the way to a peer and the store behind a lease are small
// interfaces; on one host they are a Dir and a FileLease, on several a Net and a StoreLease, whose Directory and
// Store are an engine's (peers/kubernetes, peers/swarm).
package peers
