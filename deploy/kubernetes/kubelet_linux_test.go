package kubernetes_test

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// kubelet is the scheduler and the only node of a cluster whose pods are processes: it runs the arguments of a pod's
// first container with the binary of this tree, on an address of the pod's own. An address is given to the next pod as
// soon as its process has ended.
type kubelet struct {
	t      *testing.T
	cli    kubernetes.Interface
	ns     string
	binary string
	// selector chooses the pods it runs.
	selector string
	// command, when it is set, is what runs a pod, and on which address; "" is one of its own choice.
	command func(pod *corev1.Pod, ip string) (cmd *exec.Cmd, at string)

	mu    sync.Mutex // guards all below
	pods  map[string]*process
	ips   []string // free ones; the last is taken first
	costs []string // the deletion costs of pods that were told to end, "" for none
	ended int      // pods that are gone
}

// process is a running pod.
type process struct {
	cmd     *exec.Cmd
	ip      string
	stopped bool
}

// newKubelet runs until the test ends.
func newKubelet(t *testing.T, cli kubernetes.Interface, ns, binary string) *kubelet {
	t.Helper()
	k := &kubelet{t: t, cli: cli, ns: ns, binary: binary, selector: "app=api"}
	k.run()
	return k
}

func (k *kubelet) run() {
	t, cli := k.t, k.cli
	t.Helper()
	k.pods = make(map[string]*process)
	for i := 99; i > 0; i-- {
		k.ips = append(k.ips, fmt.Sprintf("10.123.0.%d", i))
	}
	must[*corev1.Node](t)(cli.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}, metav1.CreateOptions{}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			k.sync(ctx)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, p := range k.pods {
			_ = p.cmd.Process.Kill()
		}
	})
}

// sync looks at all pods once. An API server that does not answer changes nothing.
func (k *kubelet) sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	list, err := k.cli.CoreV1().Pods(k.ns).List(ctx, metav1.ListOptions{LabelSelector: k.selector})
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range list.Items {
		pod := &list.Items[i]
		p := k.pods[string(pod.UID)]
		switch {
		case pod.DeletionTimestamp != nil && p == nil:
			k.remove(ctx, pod)
		case pod.DeletionTimestamp != nil:
			k.end(pod, p)
		case pod.Spec.NodeName == "":
			_ = k.cli.CoreV1().Pods(k.ns).Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: "node"}}, metav1.CreateOptions{})
		case p == nil:
			k.begin(pod)
		default:
			k.report(ctx, pod, p)
		}
	}
}

// begin starts the process of a pod. An image named missing cannot be pulled.
func (k *kubelet) begin(pod *corev1.Pod) {
	container := pod.Spec.Containers[0]
	if strings.Contains(container.Image, "missing") {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container.Name, Image: container.Image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "Back-off pulling image"}}}}
		k.write(pod)
		return
	}
	ip := k.ips[len(k.ips)-1]
	args := slices.Clone(container.Args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "0.0.0.0", ip)
	}
	cmd := exec.Command(k.binary, args...)
	if k.command != nil {
		var at string
		if cmd, at = k.command(pod, ip); cmd == nil {
			return // tried again
		} else if at != "" {
			ip = at
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		k.t.Error(err)
		return
	}
	if ip == k.ips[len(k.ips)-1] {
		k.ips = k.ips[:len(k.ips)-1]
	}
	k.pods[string(pod.UID)] = &process{cmd: cmd, ip: ip}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP, pod.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	k.write(pod)
}

// report probes a pod and writes whether it is ready, when that changed.
func (k *kubelet) report(ctx context.Context, pod *corev1.Pod, p *process) {
	ready := corev1.ConditionFalse
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, probe(pod, p.ip), nil)
	if err == nil {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				ready = corev1.ConditionTrue
			}
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == ready {
			return
		}
	}
	pod.Status.Conditions = nil
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: ready, LastTransitionTime: metav1.Now()})
	}
	k.write(pod)
}

// probe is the URL of a pod's readiness probe.
func probe(pod *corev1.Pod, ip string) string {
	get := pod.Spec.Containers[0].ReadinessProbe.HTTPGet
	for _, port := range pod.Spec.Containers[0].Ports {
		if port.Name == get.Port.String() {
			return fmt.Sprintf("http://%s:%d%s", ip, port.ContainerPort, get.Path)
		}
	}
	return fmt.Sprintf("http://%s:%d%s", ip, get.Port.IntValue(), get.Path)
}

func (k *kubelet) write(pod *corev1.Pod) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, _ = k.cli.CoreV1().Pods(k.ns).UpdateStatus(ctx, pod, metav1.UpdateOptions{}) // the next sync tries again
}

// end tells the process to end, once, after the pod's preStop hook.
func (k *kubelet) end(pod *corev1.Pod, p *process) {
	if p.stopped {
		return
	}
	p.stopped = true
	cost := pod.Annotations["controller.kubernetes.io/pod-deletion-cost"]
	k.costs = append(k.costs, cost)
	pause := time.Duration(0)
	if hooks := pod.Spec.Containers[0].Lifecycle; hooks != nil && hooks.PreStop != nil && hooks.PreStop.Sleep != nil {
		pause = time.Duration(hooks.PreStop.Sleep.Seconds) * time.Second
	}
	uid := string(pod.UID)
	go func() {
		time.Sleep(pause)
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.cmd.Wait()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.pods, uid)
		if p.ip != gatewayIP {
			k.ips = append(k.ips, p.ip)
		}
		k.ended++
	}()
}

// remove takes a pod that has ended out of the API.
func (k *kubelet) remove(ctx context.Context, pod *corev1.Pod) {
	_ = k.cli.CoreV1().Pods(k.ns).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
}

// toldToEnd counts the pods that were told to end, and how many of them bore a cost of sluice's.
func (k *kubelet) toldToEnd() (all, marked int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, text := range k.costs {
		if cost, err := strconv.Atoi(text); err == nil && cost < -2147000000 {
			marked++
		}
	}
	return len(k.costs), marked
}
