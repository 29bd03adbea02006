package lab

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// JumpClock sets what the server's process takes for the machine's clock so much
// forward or, below zero, back, beside earlier jumps. Its monotonic clock goes on,
// as it does when a machine's clock is set, and nobody else's clock is touched: not
// the machine's, nor those of its sandboxes.
//
// A Go program reads the clock in the vDSO, code that the kernel maps into each
// process. The process's own copy of that is given another clock_gettime, which
// asks the kernel and adds a number that is kept behind it.
func (s *Server) JumpClock(by time.Duration) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("set a process's clock: there is no code for %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", s.PID()), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("set a process's clock: %w", err)
	}
	defer mem.Close()
	at, err := s.clockCode(mem)
	if err != nil {
		return fmt.Errorf("set a process's clock: %w", err)
	}
	code := make([]byte, len(ownClock)+8)
	if _, err := mem.ReadAt(code, at); err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	seconds := int64(by / time.Second)
	if bytes.Equal(code[:len(ownClock)], ownClock) {
		seconds += int64(binary.LittleEndian.Uint64(code[len(ownClock):]))
		_, err = mem.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(seconds)), at+int64(len(ownClock)))
	} else {
		err = s.whileOutside(func() error {
			_, err := mem.WriteAt(binary.LittleEndian.AppendUint64(bytes.Clone(ownClock), uint64(seconds)), at)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("write to the vDSO: %w", err)
	}
	return nil
}

// ownClock is clock_gettime for amd64. The seconds to be added follow it.
var ownClock = []byte{
	0xb8, 0xe4, 0, 0, 0, // mov eax, 228 (clock_gettime)
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi (CLOCK_REALTIME)
	0x75, 0x0a, // jne to ret
	0x48, 0x8b, 0x15, 6, 0, 0, 0, // mov rdx, [rip+6]
	0x48, 0x01, 0x16, // add [rsi], rdx
	0xc3,       // ret
	0x90, 0x90, // so that what follows is aligned
}

// clockCode finds clock_gettime in the vDSO of the server's process.
func (s *Server) clockCode(mem *os.File) (at int64, err error) {
	begin, end, err := s.vdso()
	if err != nil {
		return 0, err
	}
	image := make([]byte, end-begin)
	if _, err := mem.ReadAt(image, begin); err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	parsed, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := parsed.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	for _, sym := range symbols {
		if sym.Name == "__vdso_clock_gettime" && int(sym.Size) >= len(ownClock)+8 {
			return begin + int64(sym.Value), nil
		}
	}
	return 0, fmt.Errorf("the vDSO has no clock_gettime with room for another: %w", errors.ErrUnsupported)
}

// vdso tells where the vDSO of the server's process is.
func (s *Server) vdso() (begin, end int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", s.PID()))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasSuffix(lines.Text(), "[vdso]") {
			_, err := fmt.Sscanf(lines.Text(), "%x-%x", &begin, &end)
			return begin, end, err
		}
	}
	return 0, 0, fmt.Errorf("the process has no vDSO: %w", errors.ErrUnsupported)
}

// whileOutside does something while the server is frozen and no thread of it is in
// the vDSO.
func (s *Server) whileOutside(do func() error) error {
	begin, end, err := s.vdso()
	if err != nil {
		return err
	}
	for range 1000 {
		err = s.Freeze()
		inside := false
		if err == nil {
			inside, err = s.anyThreadIn(begin, end)
		}
		if err == nil && !inside {
			err = do()
		}
		if err = errors.Join(err, s.cmd.Process.Signal(syscall.SIGCONT)); err != nil || !inside {
			return err
		}
	}
	return errors.New("a thread is in the vDSO all the time")
}

func (s *Server) anyThreadIn(begin, end int64) (bool, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", s.PID()))
	if err != nil {
		return false, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		fields := strings.Fields(string(text)) // …, stack pointer, program counter
		pc, err := strconv.ParseInt(fields[len(fields)-1], 0, 64)
		if err != nil {
			return false, fmt.Errorf("where is a thread that says %q: %w", text, err)
		}
		if pc >= begin && pc < end {
			return true, nil
		}
	}
	return false, nil
}
