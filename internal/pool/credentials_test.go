package pool_test

import (
	"testing"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/pool"
	"lambent/internal/sandbox/fake"
)

// secretOf calls a function that answers its AWS_SECRET_ACCESS_KEY, and tells
// which container answered.
func secretOf(t *testing.T, p *pool.Pool, fn *lambent.Function) (secret string, container lambent.ContainerID) {
	t.Helper()
	l, err := p.Acquire(t.Context(), fn)
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Container.Invoke(&host.Event{RequestID: "r", Payload: []byte("1"), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	return string(a.Payload), l.Container.ID()
}

func TestAContainerServesNoCallThatItsCredentialsMightNotOutlive(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.IdleTimeout = time.Hour })
	fn := hosttest.Function("f", "env AWS_SECRET_ACCESS_KEY")
	fn.Role = "arn:aws:iam::000000000000:role/r"
	timeout := fn.Timeout()
	if secret, _ := secretOf(t, p, fn); secret != `""` {
		t.Errorf("without credentials: %s", secret)
	}

	f.Give(host.Credentials{SecretAccessKey: "lasting", Expires: time.Now().Add(time.Hour)})
	p.Renew("arn:aws:iam::000000000000:role/other")
	if secret, _ := secretOf(t, p, fn); secret != `""` {
		t.Errorf("after another role was made: %s", secret)
	}
	p.Renew(fn.Role)
	secret, first := secretOf(t, p, fn)
	if secret != `"lasting"` {
		t.Errorf("after its role was made: %s", secret)
	}
	if _, again := secretOf(t, p, fn); again != first {
		t.Error("a container with good credentials was not used again")
	}

	f.Give(host.Credentials{SecretAccessKey: "short", Expires: time.Now().Add(timeout / 2)})
	p.Renew(fn.Role)
	secret, first = secretOf(t, p, fn)
	if secret != `"short"` {
		t.Errorf("the first call gets what there is: %s", secret)
	}
	f.Give(host.Credentials{SecretAccessKey: "next", Expires: time.Now().Add(time.Hour)})
	if secret, again := secretOf(t, p, fn); again == first || secret != `"next"` {
		t.Errorf("a container was used again whose credentials end within the call: %s", secret)
	}
}

func TestAnIdleContainerIsNotUsedAgainWhenItsCredentialsEnd(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.IdleTimeout = time.Hour })
	fn := hosttest.Function("f", "env AWS_SECRET_ACCESS_KEY")
	end := time.Now().Add(fn.Timeout() + 50*time.Millisecond)
	f.Give(host.Credentials{SecretAccessKey: "first", Expires: end})
	_, first := secretOf(t, p, fn)
	f.Give(host.Credentials{SecretAccessKey: "second", Expires: time.Now().Add(time.Hour)})
	hosttest.Eventually(t, "another container answers", func() bool {
		secret, now := secretOf(t, p, fn)
		return now != first && secret == `"second"`
	})
}
