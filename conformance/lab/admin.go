package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Pool is one entry of /_lambent/v1/pools.
type Pool struct {
	Configuration string `json:"configuration"`
	Target        int    `json:"target"`
	Ready         int    `json:"ready"`
	Owner         string `json:"owner"`
}

// Instance is one entry of /_lambent/v1/instances.
type Instance struct {
	InstanceID    string   `json:"instance_id"`
	Host          string   `json:"host"`
	State         string   `json:"state"`
	Account       string   `json:"account"`
	Configuration string   `json:"configuration"`
	MemoryMB      int      `json:"memory_mb"`
	FreeMB        int      `json:"free_mb"`
	Containers    []string `json:"containers"`
}

// Container is one entry of /_lambent/v1/containers.
type Container struct {
	ContainerID string `json:"container_id"`
	InstanceID  string `json:"instance_id"`
	State       string `json:"state"`
	Account     string `json:"account"`
	Function    string `json:"function"`
	Version     string `json:"version"`
	MemoryMB    int    `json:"memory_mb"`
	IdleSince   string `json:"idle_since"`
	PID         int    `json:"pid"`
}

// Execution is one entry of /_lambent/v1/executions.
type Execution struct {
	RequestID       string  `json:"request_id"`
	Account         string  `json:"account"`
	Function        string  `json:"function"`
	Version         string  `json:"version"`
	ReceivedAt      string  `json:"received_at"`
	ExecStartedAt   string  `json:"exec_started_at"`
	FinishedAt      string  `json:"finished_at"`
	StartKind       string  `json:"start_kind"`
	Reason          string  `json:"reason"`
	Pool            string  `json:"pool"`
	InstanceID      string  `json:"instance_id"`
	ContainerID     string  `json:"container_id"`
	MemoryMB        int     `json:"memory_mb"`
	MaxMemoryUsedMB int     `json:"max_memory_used_mb"`
	CPUMillis       float64 `json:"cpu_ms"`
	Status          string  `json:"status"`
	Error           string  `json:"error"`

	RequestedVersion string `json:"requested_version"`
	Code             string `json:"code_sha256"`
	RequestedCode    string `json:"requested_code_sha256"`
}

// Queue is one entry of /_lambent/v1/queues.
type Queue struct {
	Account       string `json:"account"`
	Function      string `json:"function"`
	Qualifier     string `json:"qualifier"`
	Waiting       int    `json:"waiting"`
	Delayed       int    `json:"delayed"`
	UnderWay      int    `json:"under_way"`
	OldestSeconds int    `json:"oldest_seconds"`
}

// Queues asks the operator's view of the events that wait.
func (s *Server) Queues() ([]Queue, error) { return admin[[]Queue](s, "queues") }

// Executions asks the operator's view of the execution records. query is what
// comes after the path's question mark.
func (s *Server) Executions(query string) ([]Execution, error) {
	return admin[[]Execution](s, "executions?"+query)
}

// Metrics asks, as the operator, for the metrics: every sample by its name and
// labels as they are printed.
func (s *Server) Metrics() (map[string]float64, error) {
	resp, err := http.Get(s.URL + "/_lambent/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET the metrics: %s", resp.Status)
	}
	samples := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		name, value, _ := strings.Cut(lines.Text(), " ")
		if samples[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("the metrics' line %q: %w", lines.Text(), err)
		}
	}
	return samples, lines.Err()
}

// Pools asks the operator's view of the warming pools.
func (s *Server) Pools() ([]Pool, error) { return admin[[]Pool](s, "pools") }

// Instances asks the operator's view of the instances.
func (s *Server) Instances() ([]Instance, error) { return admin[[]Instance](s, "instances") }

// Containers asks the operator's view of the containers.
func (s *Server) Containers() ([]Container, error) { return admin[[]Container](s, "containers") }

func admin[T any](s *Server, what string) (T, error) {
	var out T
	resp, err := http.Get(s.URL + "/_lambent/v1/" + what)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return out, fmt.Errorf("GET %s: %s", what, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("GET %s: %w", what, err)
	}
	return out, nil
}

// Settled reports, as an error, what is still on its way: pools that are not
// full, instances that are not warm. nil: the server is as it is when nobody has
// ever called it.
func (s *Server) Settled() error {
	pools, err := s.Pools()
	if err != nil {
		return err
	}
	target := 0
	for _, p := range pools {
		if target += p.Target; p.Ready != p.Target {
			return fmt.Errorf("pool %s has %d of %d ready", p.Configuration, p.Ready, p.Target)
		}
	}
	instances, err := s.Instances()
	if err != nil {
		return err
	}
	for _, i := range instances {
		if i.State != "warm" {
			return fmt.Errorf("instance %s is %s, of account %q", i.InstanceID, i.State, i.Account)
		}
		if len(i.Containers) != 1+spares {
			return fmt.Errorf("instance %s has %d runtimes waiting, not %d", i.InstanceID, len(i.Containers), 1+spares)
		}
	}
	if len(instances) != target {
		return fmt.Errorf("%d instances, the pools hold %d", len(instances), target)
	}
	return nil
}

// spares is the default of the setting instance.spares.
const spares = 1

// AwaitSettled waits until the server is as it is when nobody has ever called it.
func (s *Server) AwaitSettled(tb testing.TB) {
	tb.Helper()
	Eventually(tb, "wait for the server to settle", s.Settled)
}
