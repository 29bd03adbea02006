package api

import (
	"encoding/json"
	"net/http"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/pool"
)

// Machine is what the admin paths show of the workers. Safe for concurrent use.
type Machine interface {
	Statuses() []pool.Status
	Snapshots() []host.Snapshot
}

// HandleMachine serves the pools, instances and containers below
// /_lambent/v1/. The operator sees all, an account its own and of the pools only
// numbers.
func (a *API) HandleMachine(m Machine, hostName string) {
	h := machine{api: a, m: m, host: hostName}
	a.Handle("GET /_lambent/v1/pools", h.serve("lambent:ListPools", h.pools))
	a.Handle("GET /_lambent/v1/instances", h.serve("lambent:ListInstances", h.instances))
	a.Handle("GET /_lambent/v1/containers", h.serve("lambent:ListContainers", h.containers))
}

type machine struct {
	api  *API
	m    Machine
	host string
}

// The documents of the contract's admin paths.
type (
	poolDoc struct {
		Configuration string `json:"configuration"`
		Target        int    `json:"target"`
		Ready         int    `json:"ready"`
		Owner         string `json:"owner"` // empty: the general pool, anybody's
	}
	instanceDoc struct {
		InstanceID    lambent.InstanceID    `json:"instance_id"`
		Host          string                `json:"host"`
		State         string                `json:"state"`
		Account       lambent.AccountID     `json:"account"`
		Configuration string                `json:"configuration"`
		MemoryMB      int                   `json:"memory_mb"`
		FreeMB        int                   `json:"free_mb"`
		Containers    []lambent.ContainerID `json:"containers"`
	}
	containerDoc struct {
		ContainerID lambent.ContainerID  `json:"container_id"`
		InstanceID  lambent.InstanceID   `json:"instance_id"`
		State       string               `json:"state"`
		Account     lambent.AccountID    `json:"account"`
		Function    lambent.FunctionName `json:"function"`
		Version     lambent.Version      `json:"version"`
		MemoryMB    int                  `json:"memory_mb"`
		IdleSince   *time.Time           `json:"idle_since"` // null unless idle
		PID         int                  `json:"pid"`        // of the sandbox, on the host
	}
)

// serve answers with what list makes for a caller who may do the action.
func (h machine) serve(action string, list func(Caller) any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := h.api.Admit(r, action, "*")
		if err != nil {
			h.api.writeError(w, r, "", err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list(caller)) // a caller that went away needs no answer
	})
}

func (h machine) pools(Caller) any {
	out := []poolDoc{}
	for _, s := range h.m.Statuses() {
		out = append(out, poolDoc{Configuration: string(s.Config.Family), Target: s.Target, Ready: s.Ready})
	}
	return out
}

// visible are the instances a caller may see.
func (h machine) visible(c Caller) []host.Snapshot {
	var out []host.Snapshot
	for _, s := range h.m.Snapshots() {
		if c.Operator || s.Account == c.Account {
			out = append(out, s)
		}
	}
	return out
}

func (h machine) instances(c Caller) any {
	out := []instanceDoc{}
	for _, s := range h.visible(c) {
		doc := instanceDoc{InstanceID: s.ID, Host: h.host, State: s.State.String(), Account: s.Account, MemoryMB: s.MemoryMB,
			FreeMB: s.MemoryMB, Containers: []lambent.ContainerID{}}
		for _, k := range s.Containers {
			doc.Containers = append(doc.Containers, k.ID)
			doc.Configuration = string(k.Runtime.Family)
			doc.FreeMB -= k.MemoryMB
		}
		out = append(out, doc)
	}
	return out
}

func (h machine) containers(c Caller) any {
	out := []containerDoc{}
	for _, s := range h.visible(c) {
		for _, k := range s.Containers {
			doc := containerDoc{ContainerID: k.ID, InstanceID: k.Instance, State: k.State.String(), Account: k.Account,
				Function: k.Function, Version: k.Version, MemoryMB: k.MemoryMB, PID: s.PID}
			if !k.IdleSince.IsZero() {
				doc.IdleSince = &k.IdleSince
			}
			out = append(out, doc)
		}
	}
	return out
}
