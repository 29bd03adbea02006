package s3

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
)

// ReadCredentials reads a file in the form of AWS's shared credentials file: its
// [default] section, or what stands before any section. A file others than its
// owner may read is refused.
func ReadCredentials(name string) (Credentials, error) {
	f, err := os.Open(name)
	if err != nil {
		return Credentials{}, fmt.Errorf("open credentials: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Credentials{}, fmt.Errorf("look at credentials: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Credentials{}, fmt.Errorf("credentials %s have mode %#o: others than their owner may read them; chmod 600", name, info.Mode().Perm())
	}
	const most = 64 << 10
	text := make([]byte, most)
	n, err := f.Read(text)
	if err != nil {
		return Credentials{}, fmt.Errorf("read credentials %s: %w", name, err)
	}
	return parseCredentials(name, text[:n])
}

func parseCredentials(name string, text []byte) (Credentials, error) {
	var c Credentials
	section := "default"
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[] ")
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "default" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "aws_access_key_id":
			c.AccessKey = value
		case "aws_secret_access_key":
			c.SecretKey = value
		case "aws_session_token":
			c.SessionToken = value
		}
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		return Credentials{}, fmt.Errorf("credentials %s have no aws_access_key_id and aws_secret_access_key in [default]", name)
	}
	return c, nil
}
