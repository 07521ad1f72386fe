package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"

	"sluice/scaler"
)

// Labels that the driver puts on every container it makes, beside which nothing else tells whose a container
// is. They are reserved: LabelOwner and all under LabelReplica are no part of the words with which users
// label their own containers.
const (
	LabelOwner   = "sluice.owner"    // who started it and alone may stop it
	LabelReplica = "sluice.replica." // prefix of the rest

	LabelUpstream = LabelReplica + "upstream" // name of the upstream
	LabelOrdinal  = LabelReplica + "ordinal"  // the number in its name
	LabelHash     = LabelReplica + "hash"     // of the declaration it was made from
	LabelImage    = LabelReplica + "image"    // id of the image it was made from
)

// Labels of Docker Compose, version 1 and 2 alike.
const (
	composeProject = "com.docker.compose.project"
	composeService = "com.docker.compose.service"
	composeNumber  = "com.docker.compose.container-number"
	composeHash    = "com.docker.compose.config-hash"
	composeOneOff  = "com.docker.compose.oneoff"
)

// Reserved tells whether a label key belongs to the driver and not to the user.
func Reserved(key string) bool {
	return key == LabelOwner || strings.HasPrefix(key, LabelReplica)
}

// Labels are what every declared replica of an upstream bears: the filter with which discovery finds them.
func Labels(owner, upstream string) map[string]string {
	return map[string]string{LabelOwner: owner, LabelUpstream: upstream}
}

// name of a declared replica. Names are deterministic so that the engine itself refuses a second container
// of the same ordinal, whoever asks for it.
func name(owner, upstream string, ordinal int) string {
	return "sluice-" + nameSafe(owner) + "-" + nameSafe(upstream) + "-" + strconv.Itoa(ordinal)
}

// nameSafe keeps what the engine allows in a container's name. What had to be replaced is told apart by a
// hash, so that "a/b" and "a-b" stay two.
func nameSafe(s string) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
			return r
		}
		return '-'
	}, s)
	if safe != s || s == "" {
		sum := sha256.Sum256([]byte(s))
		safe += "-" + hex.EncodeToString(sum[:3])
	}
	return safe
}

// composeNames are the names that Compose gives container number n of a service: version 1, version 2.
func composeNames(project, service string, n int) [2]string {
	number := strconv.Itoa(n)
	return [2]string{project + "_" + service + "_" + number, project + "-" + service + "-" + number}
}

// hashOf tells two declarations apart. Every key counts: each of them changes the container.
func hashOf(c scaler.ContainerConfig) string {
	b, err := json.Marshal(c) // maps are written in the order of their keys
	if err != nil {
		panic(err) // only plain values in it
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
