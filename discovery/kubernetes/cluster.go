package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Cluster says how an API server is reached and as whom, and which namespace is meant.
type Cluster struct {
	// Config is what clients are made of. Those made of one share their connections.
	Config *rest.Config
	// Namespace whose Services are meant.
	Namespace string
	// Server is the API server's address, a URL.
	Server string
	// Account says in words whose rights are used.
	Account string
}

// serviceAccount is where a pod finds its own: token, ca.crt and namespace.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

// InCluster reports whether this process runs in a pod that was given a service account.
func InCluster() bool {
	_, err := os.Stat(serviceAccount + "token")
	return err == nil && os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// ErrNoCluster is returned by Connect where there is nothing to connect to.
var ErrNoCluster = errors.New("there is no service account in " + serviceAccount + " and $KUBECONFIG is not set")

// Connect reads the files that $KUBECONFIG names, else from the pod's service account. namespace ""
// is the one they say, "default" if none.
func Connect(namespace string) (*Cluster, error) {
	c := &Cluster{Namespace: namespace}
	var cfg *rest.Config
	var err error
	switch files := os.Getenv("KUBECONFIG"); {
	case files != "":
		loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
		if cfg, err = loader.ClientConfig(); err != nil {
			return nil, fmt.Errorf("$KUBECONFIG (%s): %w", files, err)
		}
		c.Account = "the account in " + files
		if c.Namespace == "" {
			c.Namespace, _, _ = loader.Namespace()
		}
	case InCluster():
		if cfg, err = rest.InClusterConfig(); err != nil {
			return nil, err
		}
		c.Account = "the pod's service account"
		if c.Namespace == "" {
			own, _ := os.ReadFile(serviceAccount + "namespace")
			c.Namespace = strings.TrimSpace(string(own))
		}
	default:
		return nil, ErrNoCluster
	}
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	c.Server = cfg.Host
	c.Config = cfg
	return c, tune(cfg)
}

// tune makes the calls fit a process that watches for as long as it lives.
func tune(cfg *rest.Config) error {
	cfg.UserAgent = "sluice"
	cfg.QPS, cfg.Burst = 50, 100 // the default of 5 a second is less than a handful of upstreams ask while they scale
	cfg.WarningHandler = rest.NoWarnings{}
	// A connection that is cut without a word is noticed by pings only, by default after 45 s. These are client-go's
	// own knobs (k8s.io/apimachinery/pkg/util/net), read when a transport is made.
	for name, seconds := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "5", "HTTP2_PING_TIMEOUT_SECONDS": "4"} {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, seconds); err != nil {
				return err
			}
		}
	}
	return nil
}

// Version asks the API server for its version, which every account may.
func (c *Cluster) Version(ctx context.Context) (string, error) {
	cli, err := NewClient(c.Config)
	if err != nil {
		return "", err
	}
	body, err := cli.api.Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return "", err
	}
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return "", fmt.Errorf("the answer is none of an API server: %w", err)
	}
	return v.GitVersion, nil
}
