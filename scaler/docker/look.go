package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// blueprint is what a replica made now would be.
type blueprint struct {
	hash     string  // of the declaration
	image    string  // id of its image; "" when the engine does not have it
	exemplar *member // of clones; nil when there is none to copy
}

// look lists the containers of the upstream and tells ours from others. Nothing is touched.
func (d *Driver) look(ctx context.Context, o Options) ([]*member, blueprint, error) {
	filter := filters.NewArgs(filters.Arg("label", LabelUpstream+"="+o.Upstream))
	var network string
	var port int
	if s := o.Service; s != nil {
		filter = filters.NewArgs(filters.Arg("label", composeProject+"="+s.Project), filters.Arg("label", composeService+"="+s.Name))
		network, port = s.Network, s.Port
	} else {
		port = o.Container.Port
		if len(o.Container.Networks) > 0 {
			network = o.Container.Networks[0]
		}
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	listed, err := d.engine.ContainerList(call, container.ListOptions{All: true, Filters: filter})
	if err != nil {
		return nil, blueprint{}, fmt.Errorf("listing containers: %w", err)
	}

	var members []*member
	strangers := make(map[string]string)
	for i := range listed {
		c := &listed[i]
		m := &member{
			id: c.ID, name: nameOf(c.Names), labels: c.Labels, image: c.ImageID, state: c.State,
			created: time.Unix(c.Created, 0), addr: addrOf(c, network, port),
		}
		if o.Service != nil {
			if c.Labels[composeOneOff] == "True" {
				continue
			}
			m.number = numberOf(c.Labels[composeNumber])
			m.fixed = !anyReserved(c.Labels)
		} else {
			m.number = numberOf(c.Labels[LabelOrdinal])
		}
		if !m.fixed {
			if why := foreign(o, c.Labels, m.name); why != "" {
				strangers[m.id] = fmt.Sprintf("container %s (%s) has labels of a replica of upstream %s, but %s: left alone", m.name, short(m.id), o.Upstream, why)
				continue
			}
		}
		members = append(members, m)
	}

	var now blueprint
	if o.Service != nil {
		now = blueprintOf(members)
	} else {
		now.hash = hashOf(*o.Container)
		im, err := d.engine.ImageInspect(call, o.Container.Image)
		if err != nil && !cerrdefs.IsNotFound(err) {
			return nil, blueprint{}, fmt.Errorf("looking up image %s: %w", o.Container.Image, err)
		}
		now.image = im.ID
	}
	for _, m := range members {
		m.outdated = !m.fixed && (m.labels[LabelHash] != now.hash || now.image != "" && m.labels[LabelImage] != now.image)
	}
	d.remember(o, members, strangers)
	d.gauge.follow(members)
	if err := d.sees(ctx, o, members, time.Now()); err != nil {
		return nil, blueprint{}, err
	}
	return members, now, nil
}

// blueprintOf chooses the exemplar: the youngest running container that Compose made, because it has what
// Compose was told last; without one the youngest clone.
func blueprintOf(members []*member) blueprint {
	var ex *member
	for _, m := range members {
		switch {
		case m.state != "running" || m.stopping:
		case ex == nil, m.fixed && !ex.fixed, m.fixed == ex.fixed && cmp.Or(m.created.Compare(ex.created), m.number-ex.number) > 0:
			ex = m
		}
	}
	if ex == nil {
		return blueprint{}
	}
	return blueprint{hash: ex.labels[composeHash], image: ex.image, exemplar: ex}
}

// foreign says why a container is not a replica of ours; "" when it is. Owner, upstream and number must be
// in its labels, and its name must be the one that follows from them.
func foreign(o Options, labels map[string]string, containerName string) string {
	owner, ok := labels[LabelOwner]
	switch {
	case !ok:
		return "it has no label " + LabelOwner
	case owner != o.Owner:
		return fmt.Sprintf("its label %s is %q and not %q", LabelOwner, owner, o.Owner)
	case labels[LabelUpstream] != o.Upstream:
		return fmt.Sprintf("its label %s is %q", LabelUpstream, labels[LabelUpstream])
	}
	is, number := strings.TrimPrefix(containerName, "/"), numberOf(labels[LabelOrdinal])
	if s := o.Service; s != nil {
		if labels[composeProject] != s.Project || labels[composeService] != s.Name || numberOf(labels[composeNumber]) != number {
			return "its labels of Compose do not agree with it"
		}
		if names := composeNames(s.Project, s.Name, number); is != names[0] && is != names[1] {
			return fmt.Sprintf("its name is not %s", names[1])
		}
		return ""
	}
	if want := name(o.Owner, o.Upstream, number); number < 0 || is != want {
		return "its name does not follow from its labels"
	}
	return ""
}

// Stranger says why a container that has the labels of a declared replica is none; "" when it is one. Anybody who may
// start containers can write labels.
func Stranger(owner, upstream, containerName string, labels map[string]string) string {
	return foreign(Options{Owner: owner, Upstream: upstream}, labels, containerName)
}

func anyReserved(labels map[string]string) bool {
	for key := range labels {
		if Reserved(key) {
			return true
		}
	}
	return false
}

// nameOf is the name of a container without the names that links give it (which hold a second slash).
func nameOf(names []string) string {
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

// remember joins what was listed with what this driver knows of it, and forgets what is gone.
func (d *Driver) remember(o Options, members []*member, strangers map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	listed := make(map[string]bool, len(members))
	for _, m := range members {
		listed[m.id] = true
		_, m.stopping = d.stopping[m.id]
	}
	maps.DeleteFunc(d.asked, func(id string, at time.Time) bool { return !listed[id] && time.Since(at) > callTimeout }) // it may be younger than the list
	maps.DeleteFunc(d.endings, func(id string, _ ending) bool { return !listed[id] })
	for id, why := range strangers {
		if d.labelled[id] != why {
			o.Log.Warn("a container is not ours", "upstream", o.Upstream, "why", why)
		}
	}
	d.labelled = strangers
}

// squats notes that a stranger bears a name of ours.
func (d *Driver) squats(o Options, id, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.namedWas[id] != why { // once is enough
		o.Log.Warn("a container is not ours", "upstream", o.Upstream, "why", why)
	}
	d.named[id] = why
}

// Notes say in words which containers look like ours and are left alone, and why, and what somebody else did to the
// number of replicas.
func (d *Driver) Notes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	notes := slices.AppendSeq(slices.Collect(maps.Values(d.labelled)), maps.Values(d.named))
	if s := d.others.back; s != nil {
		notes = append(notes, s.words())
	}
	slices.Sort(notes)
	return slices.Compact(notes)
}
