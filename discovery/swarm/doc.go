// Package swarm finds servers among the tasks of a Docker Swarm service. It needs a manager: workers
// know nothing of services (there, dns = "tasks.NAME:port" finds the tasks of an overlay network).
//
// One hub per client keeps what the manager says, on the same feed as the containers of a plain
// engine (see discovery/docker). Swarm sends no events of tasks: those of services, of nodes and of
// this node's own containers ask for a listing, which is repeated quickly while anything is on its
// way and every two seconds otherwise. A task counts while Swarm wants it to run and it does, on a
// node that is not down; at the first word that it is to stop it is out, which on an overlay network
// is some seconds before its process is told.
//
// The engine is only read: GET /tasks, /services, /nodes, /containers/json, /containers/{id}/json,
// /networks/docker_gwbridge, /events.
package swarm
