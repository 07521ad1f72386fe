// Package swarm keeps a group of gateways together with what Docker Swarm has for it: the labels of a config object
// say who acts, and the tasks of sluice's own service say where the gateways are. Managers alone answer that.
package swarm
