package lab

import (
	"fmt"
	"os"
	"strings"
)

// Environments reads the environment that each process of the server was
// started with, as NAME=VALUE, by what the process is. Those of the server
// itself are among them. One that ends meanwhile is left out.
func Environments(s *Server) (map[string][]string, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for pid, p := range all {
		if pid != s.PID() && !descends(all, p, s.PID()) {
			continue
		}
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue
		}
		out[p.String()] = strings.FieldsFunc(string(environ), func(r rune) bool { return r == 0 })
	}
	return out, nil
}
